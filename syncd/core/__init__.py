"""The pure core: values in, values out. No await, no clock, no randomness, no log, no I/O."""
