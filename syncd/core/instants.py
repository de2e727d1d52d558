"""Instants as people and machines read them: RFC 3339, UTC, to the millisecond."""

from __future__ import annotations

from datetime import UTC, datetime

from syncd.core.errors import UserError
from syncd.core.values import Millis


def when(at: int | None) -> str:
    """An instant as text; the empty text for none."""
    if at is None:
        return ""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(seconds: float | None) -> str:
    """A span of time as people read it, in one unit."""
    if seconds is None:
        return "never"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def instant(text: str) -> Millis:
    """What ``when`` printed, back as an instant; without a zone it is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return Millis(round(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise UserError(f"{text!r} is no time: give it as 2026-05-04T09:30:00.000Z") from None
