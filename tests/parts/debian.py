"""Programs that come as packages of Debian."""

from __future__ import annotations

import os
import shutil
import subprocess

INSTALL = "apt-get install --yes --no-install-recommends"


def installed(program: str, *packages: str) -> str | None:
    """Where a program is; its packages are installed where that can be done."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in ("apt-get update", f"{INSTALL} {' '.join(packages)}"):
            subprocess.run(command.split(), check=False, capture_output=True, timeout=600)
    return shutil.which(program)
