"""Runs every tier and says what each took. The core's branches must be covered whole.

A tier whose server can't be had is named, and fails under ``CI=true`` (``tests/conftest.py``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

SIDE_BY_SIDE = ["-n", "2", "--dist", "worksteal"]
TIERS = {
    "unit": ["tests/unit", "--cov", "--cov-report=term:skip-covered", "--cov-fail-under=100"],
    "contracts": ["tests/contracts", *SIDE_BY_SIDE],
    "simulation": ["tests/simulation", *SIDE_BY_SIDE],
    "fuzz": ["tests/fuzz"],
    "deploy": ["tests/deploy"],
    "integration": ["tests/integration", *SIDE_BY_SIDE],
    # These wait more than they compute: three at a time, on two cores.
    "system": ["tests/system", "-n", "3", "--dist", "worksteal"],
}


def main() -> int:
    took: list[tuple[str, float, int]] = []
    # A folder of its own: pytest throws old ones of its user away, and with them the servers of a run beside it.
    folder = tempfile.mkdtemp(prefix="syncd-")
    for name, arguments in TIERS.items():
        print(f"== {name}", flush=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", *arguments, *sys.argv[1:]]
        code = subprocess.run(command, check=False, env={**os.environ, "PYTEST_DEBUG_TEMPROOT": folder}).returncode
        took.append((name, time.monotonic() - started, code))
    worst = max(code for _, _, code in took)
    if worst == 0:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"== logs of what failed are in {folder}")
    print("== what each tier took")
    for name, seconds, code in took:
        print(f"{name:12} {seconds:6.0f} s  {'passed' if code == 0 else f'FAILED ({code})'}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
