"""The live dialect of ION: cursor pages, ``customers``, resource names instead of ids. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from syncd.core.policy import Dialect
from syncd.core.values import Address, Field, Millis, Value, Values

DIALECT = Dialect.LIVE
TEXTS: Mapping[Field, str] = {
    Field.COMPANY: "customerOrganization",
    Field.EMAIL: "customerEmail",
    Field.PHONE: "customerPhone",
    Field.CONTACT: "customerName",
    Field.TITLE: "customerTitle",
    Field.LANGUAGE: "languageCode",
}
STATUSES = {"ACTIVE": "active", "INACTIVE": "inactive"}
LIST_KEY = "customers"
CAN_LOOK_UP_EMAIL = True
HIDDEN: frozenset[str] = frozenset()
"""Keys that are taken and never shown."""


def is_mine(body: Mapping[str, Any]) -> bool:
    return "customers" in body or "nextPageToken" in body


def list_query(size: int, cursor: str | None) -> dict[str, str]:
    return {"pageSize": str(size), **({"pageToken": cursor} if cursor else {})}


def email_query(email: str) -> dict[str, str]:
    return {"pageSize": "10", "filter.customerEmail": email}


def customers(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = body.get(LIST_KEY)
    return [raw for raw in found if isinstance(raw, dict)] if isinstance(found, list) else []


def next_cursor(body: Mapping[str, Any], cursor: str | None, read: int) -> str | None:
    token = body.get("nextPageToken")
    return token if isinstance(token, str) and token else None


def announced(body: Mapping[str, Any]) -> int | None:
    return None


def ion_id(raw: Mapping[str, Any]) -> str | None:
    """The last segment of the resource name; there is no id field on the wire."""
    name = raw.get("name")
    last = name.replace("\x00", "").rsplit("/", 1)[-1] if isinstance(name, str) else ""
    return last or None


def values(raw: Mapping[str, Any]) -> dict[Field, Value]:
    """Every field this dialect shows; missing, null and "" are all blank."""
    found: dict[Field, Value] = {name: text(raw.get(key)) for name, key in TEXTS.items()}
    nested = raw.get("customerAddress")
    address = nested if isinstance(nested, Mapping) else {}
    found[Field.COUNTRY] = text(address.get("country"))
    parts = Address(**{part: text(address.get(part)) or "" for part in Address.__slots__})
    found[Field.ADDRESS] = None if parts.is_blank else parts
    status = STATUSES.get(str(raw.get("customerStatus", "")).upper())
    return {**found, Field.STATUS: status} if status else found


def shown_values(raw: Mapping[str, Any]) -> dict[Field, Value]:
    """Only what the answer to a write really shows: such answers may be short of fields."""
    shown = values(raw)
    hidden = {name for name, key in TEXTS.items() if key not in raw}
    if "customerAddress" not in raw:
        hidden |= {Field.ADDRESS, Field.COUNTRY}
    return {name: value for name, value in shown.items() if name not in hidden}


def created(raw: Mapping[str, Any]) -> Millis | None:
    return instant(raw.get("createTime"))


def modified(raw: Mapping[str, Any]) -> Millis | None:
    return instant(raw.get("updateTime"))


def create_body(changes: Values) -> dict[str, Any]:
    return update_body({}, changes)


def update_body(raw: Mapping[str, Any], changes: Values) -> dict[str, Any]:
    """The whole record as ION holds it, with our changes in it: a PUT replaces everything (S5).

    Fields that syncd doesn't know are sent back as they came; output-only ones are left out.
    """
    body = {key: value for key, value in raw.items() if key not in OUTPUT_ONLY}
    address = dict(raw["customerAddress"]) if isinstance(raw.get("customerAddress"), Mapping) else {}
    for name, value in changes.items():
        if name in TEXTS:
            body[TEXTS[name]] = value or ""
        elif name is Field.COUNTRY:
            address["country"] = value or ""
        elif name is Field.ADDRESS:
            parts = value if isinstance(value, Address) else Address()
            address.update({part: getattr(parts, part) for part in Address.__slots__})
    if address:
        body["customerAddress"] = address
    return body


OUTPUT_ONLY = frozenset({"name", "createTime", "updateTime", "uid", "customerStatus", "user"})


def text(raw: object) -> str | None:
    """A text of the wire as a value; numbers are taken as texts, zero bytes dropped."""
    if isinstance(raw, str):
        return raw.replace("\x00", "").strip() or None
    return str(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else None


def number(raw: object) -> Decimal | None:
    """Whole or not, as a number or as a text; ``None``: it is none."""
    try:
        read = Decimal(str(raw))
    except InvalidOperation:
        return None
    return read if read.is_finite() else None


def instant(raw: object) -> Millis | None:
    if not isinstance(raw, str):
        return None
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return Millis(int(moment.timestamp() * 1000)) if moment.tzinfo is not None else None
