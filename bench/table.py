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


def write(rows: Sequence[Row], began: str) -> None:
    """Put the rows in the place of those that the same commands made before, or at the end.

    ``began``: the build when the measurement began; another one at its end is said too.
    """
    builds = " to ".join(f"`{one}`" for one in dict.fromkeys((began, build())))
    where, made = f"{builds}, {time.strftime('%Y-%m-%d')}", dict[str, list[str]]()
    for line in between(PAGE, BEGIN).splitlines():
        if line.startswith("| ") and line.endswith("` |"):
            made.setdefault(line.rsplit("`", 2)[1], []).append(line)
    for asked in dict.fromkeys(row.command for row in rows):
        made[asked] = [row.line(where) for row in rows if row.command == asked]
    lines = "\n".join(line for each in made.values() for line in each)
    put(PAGE, BEGIN, f"On {machine()}.\n\n{HEAD}{lines}")


def between(page: Path, begin: str) -> str:
    """What a page holds after this mark, until the next end."""
    return page.read_text().partition(begin)[2].partition(END)[0]


def put(page: Path, begin: str, text: str) -> None:
    """This in the place of that."""
    whole = page.read_text()
    page.write_text(whole.replace(f"{begin}{between(page, begin)}{END}", f"{begin}\n{text}\n{END}"))


def build() -> str:
    """The commit that is measured, and whether something beside these pages was changed since."""
    commit, changed = (
        subprocess.run(["git", "-C", HOME, *asked], check=True, capture_output=True, text=True).stdout.strip()
        for asked in (["rev-parse", "--short=7", "HEAD"], ["status", "--porcelain", "syncd", "bench", "tests/parts"])
    )
    return commit + ("+" if changed else "")
