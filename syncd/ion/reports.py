"""A report's rows, out of the CSV text that ION answers with. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from syncd.core.errors import UserError


def read_report(answer: Any) -> tuple[list[str], list[list[str]]]:
    """Columns and rows. Raises a ``UserError`` that names the row where the CSV is broken."""
    text = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(text, str):
        raise UserError("ION answered the report without `results`: there are no rows to read")
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise UserError(
            f"ION's CSV of the report is broken: {error}; `syncd ion request` shows it as it is"
        ) from None
    if not lines:
        return [], []
    columns, rows = lines[0], lines[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise UserError(
                f"ION's CSV of the report is broken: row {number} has {len(row)} values for {len(columns)} columns"
            )
    return columns, rows
