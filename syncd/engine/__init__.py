"""The flows, over ports; knows no driver. Start reading in ``reconcile``."""
