"""A report's rows, out of the CSV text that ION answers with. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from syncd.core.errors import UserError


def read_report(answer: Any) -> tuple[list[str], list[list[str]]]:
    """Columns and rows. Raises a ``UserError`` that names the line where the CSV is broken."""
    text = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(text, str):
        raise UserError("ION answered the report without `results`: there are no rows to read")
    try:
        lines = [line for line in csv.reader(text.splitlines(keepends=True), strict=True) if line]
    except csv.Error as error:
        raise UserError(
            f"ION's CSV of the report is broken: {error}; --json of `syncd ion request` shows it"
        ) from None
    if not lines:
        return [], []
    columns, rows = lines[0], lines[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise UserError(
                f"ION's CSV of the report is broken: line {number} has {len(row)} values for {len(columns)} columns"
            )
    return columns, rows
