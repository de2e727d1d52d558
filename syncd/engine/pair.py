"""One customer as far as syncd knows it: both records, the link, the intents still open."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.core.intent import Intent, Kind
from syncd.core.link import Link
from syncd.core.receipt import region_of
from syncd.core.record import Record
from syncd.core.values import Side, Subject, split_subject, subject_of
from syncd.engine.ports import Unit


@dataclass(frozen=True, slots=True)
class Pair:
    subject: Subject
    link: Link | None
    crm: Record | None
    ion: Record | None
    intents: tuple[Intent, ...]

    def open_intent(self, side: Side) -> Intent | None:
        return next((intent for intent in self.intents if intent.side is side), None)

    @property
    def unresolved(self) -> Intent | None:
        """A write to ION whose answer we don't have. Whoever sent it is gone: we hold the lease."""
        return self.open_intent(Side.ION)

    @property
    def unresolved_create(self) -> Intent | None:
        intent = self.unresolved
        return intent if intent is not None and intent.kind is Kind.CREATE else None

    @property
    def region(self) -> str | None:
        crm = self.crm.values() if self.crm else {}
        ion = self.ion.values() if self.ion else {}
        return region_of(crm, ion)

    @property
    def customer(self) -> Record | None:
        """The record of the side that the subject names."""
        return self.crm if self.subject.startswith("crm:") else self.ion


async def load_pair(unit: Unit, subject: Subject) -> Pair:
    """The pair of a subject. Its own ``subject`` differs where an ION customer is linked by now."""
    side, customer_id = split_subject(subject)
    link = (await unit.links(side, [customer_id])).get(customer_id)
    if link is not None:
        subject = subject_of(Side.CRM, link.crm_id)
        crm_id, ion_id = str(link.crm_id), str(link.ion_id)
        crm = (await unit.records(Side.CRM, [crm_id])).get(crm_id)
        ion = (await unit.records(Side.ION, [ion_id])).get(ion_id)
    else:
        record = (await unit.records(side, [customer_id])).get(customer_id)
        crm, ion = (record, None) if side is Side.CRM else (None, record)
    return Pair(subject, link, crm, ion, tuple(await unit.open_intents(subject)))
