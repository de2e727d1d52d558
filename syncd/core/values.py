"""The values every other module speaks in: sides, fields, ids, instants.

An instant is an ``int``: milliseconds since 1970-01-01 UTC. A value of a field is a ``str``, an
``Address`` or ``None``; ``None`` means the field is blank (``""`` never gets past the edges).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NewType

from syncd.core.errors import UserError

Millis = NewType("Millis", int)
CrmId = NewType("CrmId", str)
IonId = NewType("IonId", str)
Subject = NewType("Subject", str)
"""Whom work is about: ``crm:<CRM id>`` once there is one, else ``ion:<ION id>``."""

BEGINNING = Millis(0)


class Side(StrEnum):
    CRM = "crm"
    ION = "ion"

    @property
    def other(self) -> Side:
        return Side.ION if self is Side.CRM else Side.CRM


class Field(StrEnum):
    COMPANY = "company"
    EMAIL = "email"
    COUNTRY = "country"
    PHONE = "phone"
    ADDRESS = "address"
    CONTACT = "contact"
    TITLE = "title"
    LANGUAGE = "language"
    STATUS = "status"


def field_named(name: str) -> Field:
    """Raises a ``UserError`` that lists the fields where there is none of that name."""
    try:
        return Field(name)
    except ValueError:
        raise UserError(f"there is no field {name}: it is one of {', '.join(Field)}") from None


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One unit, never merged in parts. A part that is not there is ``""``."""

    street: str = ""
    suite: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""

    @property
    def is_blank(self) -> bool:
        return not (self.street or self.suite or self.city or self.state or self.zip)


Value = str | Address | None
Values = Mapping[Field, Value]
NO_VALUES: Mapping[str, Value] = MappingProxyType({})


def subject_of(side: Side, customer_id: str) -> Subject:
    return Subject(f"{side}:{customer_id}")


def split_subject(subject: Subject) -> tuple[Side, str]:
    side, _, customer_id = subject.partition(":")
    return Side(side), customer_id


def value_to_json(value: Value) -> object:
    """``str`` and ``None`` as they are, an address as an object of its five parts."""
    if isinstance(value, Address):
        return {
            "street": value.street,
            "suite": value.suite,
            "city": value.city,
            "state": value.state,
            "zip": value.zip,
        }
    return value


def value_from_json(value: object) -> Value:
    if isinstance(value, Mapping):
        return Address(**{part: str(text or "") for part, text in value.items()})
    return None if value is None else str(value)


def values_to_json(values: Values) -> dict[str, object]:
    return {field.value: value_to_json(value) for field, value in values.items()}


def values_from_json(values: Mapping[str, object]) -> dict[Field, Value]:
    return {Field(field): value_from_json(value) for field, value in values.items()}
