"""The table of measurements keeps what others have measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import table
from bench.table import BEGIN, END, Row, write


def test_rows_take_the_place_of_those_that_the_same_command_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "measurements.md"
    page.write_text(f"Before.\n\n{BEGIN}\n{END}\n\nAfter.\n")
    monkeypatch.setattr(table, "PAGE", page)
    write([Row("start", "0.2 s", "0.3 s", "—", "—", "a"), Row("ready", "1 s", "2 s", "—", "—", "a")])
    write([Row("drain", "1.04", "1.05", "R", "—", "b")])
    write([Row("start", "0.1 s", "0.3 s", "—", "—", "a")])
    text = page.read_text()
    assert text.startswith("Before.\n\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    lines = [line for line in text.splitlines() if line.endswith("` |")]
    assert lines == ["| drain | 1.04 | 1.05 | R | — | `b` |", "| start | 0.1 s | 0.3 s | — | — | `a` |"]
