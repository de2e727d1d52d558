"""One customer as far as syncd knows it: both records, the link, the intents still open."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.core.errors import NotFound
from syncd.core.intent import Intent, Kind
from syncd.core.link import Link, LinkState
from syncd.core.receipt import region_of
from syncd.core.record import Record
from syncd.core.values import Millis, Side, Subject, split_subject, subject_of
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
    def state_seen(self) -> LinkState:
        """The state that the link should have by what both sides show now (S10).

        A deletion in the CRM stops the pair, and an edit after it starts it again. What is missing
        in ION stays so until a listing shows it again; that it is gone, ``push`` finds out.
        """
        if self.link is not None and self.crm is None:
            return self.link.state  # a link from the links topic, ahead of its records
        if self.crm is not None and self.crm.is_deleted:
            return LinkState.DELETED_IN_CRM
        is_missing = self.link is not None and self.link.state is LinkState.MISSING_IN_ION
        if is_missing and self.ion is not None and self.ion.missing_sweeps:
            return LinkState.MISSING_IN_ION
        return LinkState.LINKED

    @property
    def is_standing_still(self) -> bool:
        """Linked, and to be left alone on both sides, or only now to be taken up again."""
        return self.link is not None and (self.link.state, self.state_seen) != (LinkState.LINKED, LinkState.LINKED)

    @property
    def both(self) -> tuple[Record, Record]:
        """Both records; only for a pair that is known to have them."""
        if self.crm is None or self.ion is None:
            raise RuntimeError(f"{self.subject} lacks a record")
        return self.crm, self.ion

    @property
    def crm_id(self) -> str | None:
        return self.link.crm_id if self.link else self.crm.customer_id if self.crm else None

    @property
    def ion_id(self) -> str | None:
        return self.link.ion_id if self.link else self.ion.customer_id if self.ion else None

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


async def find_pair(unit: Unit, customer: str) -> Pair:
    """By CRM id, or by ``crm:ID`` or ``ion:ID``; raises ``NotFound`` where nothing is known of it."""
    subject = Subject(customer if customer.startswith(("ion:", "crm:")) else f"crm:{customer}")
    pair = await load_pair(unit, subject)
    if pair.crm is None and pair.ion is None:
        raise NotFound(f"nothing is known of {customer}: give a CRM id, or an ION id as ion:ID")
    return pair


async def look_at_everyone(unit: Unit, now: Millis) -> None:
    """Queue every pair: what was decided about them may not hold any more."""
    after = ""
    while links := await unit.list_links(None, after, 1_000):
        await unit.enqueue([Subject(f"crm:{link.crm_id}") for link in links], now)
        after = links[-1].crm_id
