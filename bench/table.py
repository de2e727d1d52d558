"""The table in ``docs/measurements.md``: each measurement replaces its own rows, and leaves those of others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.machine import machine

PAGE = Path(__file__).parents[1] / "docs" / "measurements.md"
BEGIN, END = "<!-- measured: python -m bench -->", "<!-- end -->"
HEAD = "| what | measured | goal | against | ratio | command |\n| --- | --- | --- | --- | --- | --- |\n"


class Row(NamedTuple):
    """One line: texts as they are shown, numbers with their spread."""

    what: str
    measured: str
    goal: str
    against: str
    """The peer, or the limit that can't be beaten, with its own number."""
    ratio: str
    command: str

    def line(self) -> str:
        return "| " + " | ".join((*self[:-1], f"`{self.command}`")) + " |"


def show(rows: Sequence[Row]) -> None:
    for row in rows:
        print(f"{row.what}: {row.measured}; goal {row.goal}; against {row.against}; ratio {row.ratio}", flush=True)


def write(rows: Sequence[Row]) -> None:
    """Put the rows in the place of those that the same commands made before."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    fresh = {row.command for row in rows}
    old = [line for line in between.splitlines() if line.startswith("| ") and line.endswith("` |")]
    kept = [line for line in old if line.rsplit("`", 2)[1] not in fresh]
    lines = sorted([*kept, *(row.line() for row in rows)])
    said = f"Measured {time.strftime('%Y-%m-%d')} on {machine()}.\n\n"
    PAGE.write_text(f"{before}{BEGIN}\n{said}{HEAD}{chr(10).join(lines)}\n{END}{after}")
