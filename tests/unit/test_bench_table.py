"""The table of measurements keeps what others have measured."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from bench import table
from bench.table import BEGIN, END, Row, command, write


def test_rows_take_the_place_of_those_that_the_same_command_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "measurements.md"
    page.write_text(f"Before.\n\n{BEGIN}\n{END}\n\nAfter.\n")
    monkeypatch.setattr(table, "PAGE", page)
    monkeypatch.setattr(table, "build", lambda: "abc1234")
    old = [Row("start", "0.2 s", "0.3 s", "1 of 1", "—", "—", "a"), Row("ready", "1 s", "2 s", "—", "—", "—", "a")]
    write(old, "abc1234")
    write([Row("drain", "1.04", "1.05", "5 of 5", "R", "—", "b")], "0123456")
    write([Row("start", "0.1 s", "0.3 s", "1 of 1", "—", "—", "a")], "abc1234")
    text = page.read_text()
    assert text.startswith("Before.\n\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    lines = [line for line in text.splitlines() if line.endswith("` |")]
    today = time.strftime("%Y-%m-%d")
    assert lines == [
        f"| start | 0.1 s | 0.3 s | 1 of 1 | — | — | `abc1234`, {today} | `a` |",
        f"| drain | 1.04 | 1.05 | 5 of 5 | R | — | `0123456` to `abc1234`, {today} | `b` |",
    ]


def test_what_was_measured_is_named_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_R", "30")
    assert command("latency") == "BENCH_R=30 python -m bench.latency"
    assert re.fullmatch(r"[0-9a-f]{7}\+?", table.build())
