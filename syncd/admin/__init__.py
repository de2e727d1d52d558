"""Our own HTTP: liveness, readiness, metrics."""
