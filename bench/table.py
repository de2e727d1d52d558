"""The table in ``docs/measurements.md``: each measurement replaces its own rows, and leaves those of others."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.machine import machine

HOME = Path(__file__).parents[1]
PAGE = HOME / "docs" / "measurements.md"
BEGIN, END = "<!-- measured: python -m bench -->", "<!-- end -->"
HEAD = (
    "| what | measured | goal | reached | against | ratio | measured on | command |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
)


class Row(NamedTuple):
    """One line: texts as they are shown, numbers with their spread."""

    what: str
    measured: str
    goal: str
    reached: str
    """In how many of the runs."""
    against: str
    """The peer, or the limit that can't be beaten, with its own number."""
    ratio: str
    command: str

    def line(self, where: str) -> str:
        return "| " + " | ".join((*self[:-1], where, f"`{self.command}`")) + " |"


def command(module: str) -> str:
    """What measures this, with what it was told to do otherwise than by default."""
    told = sorted(f"{name}={value} " for name, value in os.environ.items() if name.startswith("BENCH_"))
    return f"{''.join(told)}python -m bench.{module}"


def reached(claims: Sequence[bool]) -> str:
    """One claim a run: that its goal was reached."""
    return f"{sum(claims)} of {len(claims)}"


def show(rows: Sequence[Row]) -> None:
    for row in rows:
        print(
            f"{row.what}: {row.measured}; goal {row.goal}, reached {row.reached}; against {row.against};"
            f" ratio {row.ratio}",
            flush=True,
        )


def write(rows: Sequence[Row]) -> None:
    """Put the rows in the place of those that the same commands made before, or at the end."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    lines = [line for line in between.splitlines() if line.startswith("| ") and line.endswith("` |")]
    commands = [line.rsplit("`", 2)[1] for line in lines]
    where = f"`{build()}`, {time.strftime('%Y-%m-%d')}"
    for command in dict.fromkeys(row.command for row in rows):
        fresh = [row.line(where) for row in rows if row.command == command]
        place = commands.index(command) if command in commands else len(lines)
        lines[place : place + commands.count(command)] = fresh
        commands[place : place + commands.count(command)] = [command] * len(fresh)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\nOn {machine()}.\n\n{HEAD}{table}\n{END}{after}")


def build() -> str:
    """The commit that is measured, and whether something beside these pages was changed since."""
    commit, changed = (
        subprocess.run(["git", "-C", HOME, *asked], check=True, capture_output=True, text=True).stdout.strip()
        for asked in (["rev-parse", "--short=7", "HEAD"], ["status", "--porcelain", "syncd", "bench"])
    )
    return commit + ("+" if changed else "")
