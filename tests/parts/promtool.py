"""Prometheus' own tool, by Debian's package, for rules and their tests."""

from __future__ import annotations

import os
import shutil
import subprocess

INSTALL = "apt-get install --yes --no-install-recommends prometheus"


class NoPromtool(Exception):
    pass


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in ("apt-get update", INSTALL):
            subprocess.run(command.split(), check=False, capture_output=True, timeout=600)
        found = shutil.which("promtool")
    if found is None:
        raise NoPromtool(f"there is no promtool: `{INSTALL}`")
    return subprocess.run([found, *arguments], check=False, capture_output=True, text=True, timeout=120)
