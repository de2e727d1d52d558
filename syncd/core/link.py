"""The link between a CRM id and an ION id, with the base: what both sides last agreed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from syncd.core.values import CrmId, Field, IonId, Millis, Side, Value

WRITE_SPACING_MS = 10_000
"""One customer's ION record is written at most once in this time, so that a burst of edits costs
one write at once and one at the end (S5)."""


class LinkState(StrEnum):
    LINKED = "linked"
    MISSING_IN_ION = "missing-in-ion"
    DELETED_IN_CRM = "deleted-in-crm"


class How(StrEnum):
    """What made the link."""

    CRM_NOTE = "crm-note"
    EMAIL_AND_COMPANY = "email-and-company"
    COMPANY_AND_COUNTRY = "company-and-country"
    LIKENESS = "likeness"
    CREATED_IN_ION = "created-in-ion"
    CREATED_IN_CRM = "created-in-crm"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Spelling:
    """A side hands back ``read`` where we wrote ``written``: the two are equal here (S6)."""

    written: Value
    read: Value


@dataclass(frozen=True, slots=True)
class Link:
    crm_id: CrmId
    ion_id: IonId
    state: LinkState
    how: How
    since: Millis
    base: Mapping[Field, Value]
    """A field that is missing has never been agreed on."""
    spellings: Mapping[tuple[Side, Field], Spelling] = field(default_factory=dict)
    written_at: Millis = Millis(0)
    """When we last wrote to this pair's ION customer: writes to one customer keep a distance."""
    frozen: frozenset[Field] = frozenset()
    """Fields that were written too often; a person lets them go on (S6)."""
    thawed_at: Millis = Millis(0)
    """When a person last did: writes before that count for nothing any more."""

    @property
    def writable_at(self) -> Millis:
        return Millis(self.written_at + WRITE_SPACING_MS)

    def spelt(self, side: Side, name: Field, value: Value) -> Value:
        """The value as we would write it, seeing through the side's own spelling."""
        spelling = self.spellings.get((side, name))
        return spelling.written if spelling is not None and spelling.read == value else value
