"""What processes use of the machine, and what a run of a measurement says."""

from __future__ import annotations

import gc
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

from syncd.cli.daemon import SELDOM

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int(_stat(int(folder.name))[1])
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_seconds(pid: int) -> float:
    """Of a process and its descendants, those that have ended too."""
    total = 0.0
    for one in tree(pid):
        try:
            total += sum(map(int, _stat(one)[11:15])) / TICK
        except OSError:
            continue
    return total


def peak_megabytes(pid: int) -> float:
    """The most memory that this process held at once since it was started, or since that was forgotten."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def forget_peak(pid: int) -> None:
    """From now on the most is counted anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def machine() -> str:
    """In a line: what was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Python {platform.python_version()}"


def collect_seldom() -> None:
    """In this process rubbish is collected as in the daemon's."""
    gc.set_threshold(*SELDOM)
    gc.freeze()


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Median, and from least to most."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}}–{max(values):{form}})"


def ratio(ours: Sequence[float], theirs: Sequence[float], form: str = ".1f") -> str:
    """Of the medians."""
    return f"{statistics.median(ours) / statistics.median(theirs):{form}}"


def _stat(pid: int) -> Sequence[str]:
    """The fields of ``/proc/PID/stat`` from the state on: the name before it may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
