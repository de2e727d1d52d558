"""What the topics beside the events have in common: a JSON object, plain or as the data of a CloudEvent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from syncd.crm.events import Bad

MAX_ID = 200


def document_of(value: bytes, what: str) -> Mapping[str, Any]:
    """Raises ``Bad``."""
    try:
        told = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Bad("undecodable", f"{what} is not JSON: {error.msg} at byte {error.pos}") from None
    if isinstance(told, Mapping) and "specversion" in told:
        told = told.get("data")
    if not isinstance(told, Mapping):
        raise Bad("wrong-type", f"{what} is not a JSON object")
    return told


def id_of(raw: object, what: str) -> str:
    """A text, or a whole number as one; raises ``Bad``."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str) or not raw or len(raw) > MAX_ID or not raw.isprintable():
        raise Bad("wrong-type", f"{what} must be a text of 1 to {MAX_ID} characters, not {shown(raw)}")
    return raw


def number_of(raw: object, what: str, least: int, most: int) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not least <= raw <= most:
        raise Bad("wrong-type", f"{what} must be a whole number from {least} to {most}, not {shown(raw)}")
    return raw


def shown(raw: object) -> str:
    """Enough to know it again; what has parts may have a password among them."""
    return type(raw).__name__ if isinstance(raw, Mapping | list) else repr(raw)[:40]
