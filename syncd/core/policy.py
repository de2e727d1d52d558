"""What each side can do with each field, and what the operator wants: the table all else follows.

=========  ======================  ======================
field      seed dialect of ION     live dialect of ION
=========  ======================  ======================
company    read, listed, written   read, listed, written
email      read, listed, written   read, listed, written
country    read, listed, written   read, listed, written
phone      written                 read, listed, written
address    written                 read, listed, written
contact    --                      read, listed, written
title      --                      read, listed, written
language   --                      read, listed, written
status     read, listed            read, listed
=========  ======================  ======================

The CRM reads and writes every field. A field a side does not have is not compared; one that can't
be read back is written when the CRM changes it and otherwise left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Flag, StrEnum, auto

from syncd.core.values import Field, Side, Value


class Access(Flag):
    NONE = 0
    READ = auto()
    WRITE = auto()
    BOTH = READ | WRITE


class Dialect(StrEnum):
    LIVE = "live"
    SEED = "seed"


ION_ACCESS: Mapping[Dialect, Mapping[Field, Access]] = {
    Dialect.LIVE: {
        **dict.fromkeys(Field, Access.BOTH),
        Field.STATUS: Access.READ,
    },
    Dialect.SEED: {
        Field.COMPANY: Access.BOTH,
        Field.EMAIL: Access.BOTH,
        Field.COUNTRY: Access.BOTH,
        Field.PHONE: Access.WRITE,
        Field.ADDRESS: Access.WRITE,
        Field.STATUS: Access.READ,
    },
}

ION_REQUIRES: Mapping[Dialect, tuple[Field, ...]] = {
    Dialect.LIVE: (Field.COMPANY, Field.EMAIL, Field.COUNTRY, Field.ADDRESS, Field.CONTACT, Field.LANGUAGE),
    Dialect.SEED: (Field.COMPANY, Field.EMAIL, Field.COUNTRY),
}


class Direction(StrEnum):
    BOTH = "both"
    CRM_TO_ION = "crm-to-ion"
    ION_TO_CRM = "ion-to-crm"
    OFF = "off"

    def lets_write_to(self, side: Side) -> bool:
        return self is Direction.BOTH or self is _ONLY_TO[side]


_ONLY_TO = {Side.ION: Direction.CRM_TO_ION, Side.CRM: Direction.ION_TO_CRM}


class Tie(StrEnum):
    """Who wins when two edits can't be ordered."""

    CRM = "crm"
    ION = "ion"
    REVIEW = "review"


class FirstLink(StrEnum):
    """Who wins on a field where a newly linked pair differs."""

    CRM = "crm"
    ION = "ion"
    NEWEST = "newest"
    REVIEW = "review"


Key = Callable[[Value, str | None], object]
"""From a value and the customer's country to what is compared: equal keys, equal values."""


def plain_key(value: Value, country: str | None = None) -> object:
    return value


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One row of the mapping, as far as deciding goes."""

    field: Field
    direction: Direction = Direction.BOTH
    tie: Tie = Tie.CRM
    first_link: FirstLink = FirstLink.CRM
    ion: Access = Access.BOTH
    key: Key = plain_key

    def may_write_to(self, side: Side) -> bool:
        writable = side is Side.CRM or Access.WRITE in self.ion
        return writable and self.direction.lets_write_to(side)


@dataclass(frozen=True, slots=True)
class Policy:
    """All that deciding depends on besides the records and the link."""

    rules: Mapping[Field, FieldRule]
    skew_ms: int = 2_000
    creates_in_ion: bool = True
    creates_in_crm: bool = True
    reviews_crm_deletions: bool = False
    defaults: Mapping[Field, Value] = field(default_factory=dict)
    required_by_ion: tuple[Field, ...] = field(default=ION_REQUIRES[Dialect.LIVE])

    def sent_value(self, value: Value, name: Field) -> Value:
        """What a create sends: the CRM's value, or where it has none the mapping's default."""
        return self.defaults.get(name) if value is None else value

    def writes_to_ion(self) -> tuple[Field, ...]:
        return tuple(name for name, rule in self.rules.items() if rule.may_write_to(Side.ION))

    def hidden_in_ion(self) -> tuple[Field, ...]:
        """Fields that ION takes and never shows: a write of the whole record must carry them along."""
        return tuple(name for name in self.writes_to_ion() if not self.reads_from_ion(name))

    def reads_from_ion(self, name: Field) -> bool:
        rule = self.rules.get(name)
        return rule is not None and Access.READ in rule.ion
