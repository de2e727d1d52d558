"""The seed dialect of ION: numbered pages, ``items`` with ``totalCount``, ids on the wire. Pure.

``phone`` and ``address`` are taken and never returned; ``status`` is returned and never taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncd.core.policy import Dialect
from syncd.core.values import Address, Field, Millis, Value, Values, value_to_json
from syncd.ion.live import instant, text

DIALECT = Dialect.SEED
TEXTS: Mapping[Field, str] = {
    Field.COMPANY: "companyName",
    Field.EMAIL: "email",
    Field.COUNTRY: "country",
}
STATUSES = {"active": "active", "inactive": "inactive"}
LIST_KEY = "items"
CAN_LOOK_UP_EMAIL = False
HIDDEN = frozenset({"phone", "address"})
OUTPUT_ONLY = frozenset({"customerId", "status", "createdAt"})


def is_mine(body: Mapping[str, Any]) -> bool:
    return "items" in body or "totalCount" in body


def list_query(size: int, cursor: str | None) -> dict[str, str]:
    return {"page": cursor or "1", "pageSize": str(size)}


def email_query(email: str) -> dict[str, str]:
    raise LookupError("the seed dialect has no look-up by e-mail")


def customers(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = body.get(LIST_KEY)
    return [raw for raw in found if isinstance(raw, dict)] if isinstance(found, list) else []


def next_cursor(body: Mapping[str, Any], cursor: str | None, read: int) -> str | None:
    """``read``: customers read so far with this page. The server may give smaller pages than asked."""
    total = announced(body)
    if not customers(body) or (total is not None and read >= total):
        return None
    return str(int(cursor or "1") + 1)


def announced(body: Mapping[str, Any]) -> int | None:
    total = body.get("totalCount")
    if isinstance(total, str) and total.isdigit():
        return int(total)
    return total if isinstance(total, int) and not isinstance(total, bool) else None


def ion_id(raw: Mapping[str, Any]) -> str | None:
    return text(raw.get("customerId"))


def values(raw: Mapping[str, Any]) -> dict[Field, Value]:
    found: dict[Field, Value] = {name: text(raw.get(key)) for name, key in TEXTS.items()}
    status = STATUSES.get(str(raw.get("status", "")).lower())
    return {**found, Field.STATUS: status} if status else found


def shown_values(raw: Mapping[str, Any]) -> dict[Field, Value]:
    """Only what the answer to a write really shows: such answers may be short of fields."""
    return {name: value for name, value in values(raw).items() if TEXTS.get(name, "status") in raw}


def created(raw: Mapping[str, Any]) -> Millis | None:
    return instant(raw.get("createdAt"))


def modified(raw: Mapping[str, Any]) -> Millis | None:
    return None


def create_body(changes: Values) -> dict[str, Any]:
    return update_body({}, changes)


def update_body(raw: Mapping[str, Any], changes: Values) -> dict[str, Any]:
    """The whole record as ION shows it, with our changes in it."""
    body = {key: value for key, value in raw.items() if key not in OUTPUT_ONLY}
    for name, value in changes.items():
        if name in TEXTS:
            body[TEXTS[name]] = value or ""
        elif name is Field.PHONE:
            body["phone"] = value or ""
        elif name is Field.ADDRESS:
            body["address"] = value_to_json(value if isinstance(value, Address) else Address())
    return body
