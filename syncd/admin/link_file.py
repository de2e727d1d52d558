"""A file of links: CSV with the columns ``crm_id`` and ``ion_id``, such as ``syncd links export`` writes."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from syncd.core.errors import UserError


def read_links(text: Iterable[str], name: str) -> list[tuple[int, str, str]]:
    """Line number, CRM id, ION id; ``name``: what to call the file if it can't be used."""
    try:
        reader = csv.DictReader(text)
        if not {"crm_id", "ion_id"} <= set(reader.fieldnames or ()):
            raise UserError(f"{name} needs a first line with the columns crm_id and ion_id")
        return [(reader.line_num, (row["crm_id"] or "").strip(), (row["ion_id"] or "").strip()) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} can't be read as CSV in UTF-8: {error}") from None
