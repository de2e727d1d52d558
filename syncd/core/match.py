"""Which customer of the other side is this one? (S8, tiers 1 to 3)

=====  ==========================================  ============  ==========
tier   evidence                                    one clear     several
=====  ==========================================  ============  ==========
1      the CRM carries the ION id                  link          review
2      same e-mail and same company                link          review
3      same company and same country               link          review
near   same e-mail or same company, nothing more   review        review
none   nothing                                     new           --
=====  ==========================================  ============  ==========

*Clear* holds in both directions: no other free customer on this side points at the same one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from syncd.core.link import How
from syncd.core.record import Record
from syncd.core.values import Field, Side, Value

_SPACES = re.compile(r"\s+")


MAX_KEY = 400
"""Characters of a key; what is alike that far is alike. An index takes no longer ones."""


def match_key(value: Value) -> str | None:
    """What exact matching compares: no case, no accents' encoding, no stray spaces."""
    if not isinstance(value, str):
        return None
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", value)).strip().casefold()[:MAX_KEY] or None


@dataclass(frozen=True, slots=True)
class Keys:
    """The look-up keys of one record, stored and indexed beside it."""

    email: str | None
    company: str | None
    country: str | None
    noted_ion_id: str | None


def keys_of(record: Record) -> Keys:
    return Keys(
        match_key(record.value(Field.EMAIL)),
        match_key(record.value(Field.COMPANY)),
        match_key(record.value(Field.COUNTRY)),
        record.noted_ion_id if record.side is Side.CRM else None,
    )


class Tier(StrEnum):
    NOTE = "crm-note"
    EMAIL_AND_COMPANY = "email-and-company"
    COMPANY_AND_COUNTRY = "company-and-country"
    EMAIL_ONLY = "email-only"
    COMPANY_ONLY = "company-only"


SCORES = {
    Tier.NOTE: 1.0,
    Tier.EMAIL_AND_COMPANY: 0.98,
    Tier.COMPANY_AND_COUNTRY: 0.92,
    Tier.EMAIL_ONLY: 0.6,
    Tier.COMPANY_ONLY: 0.5,
}
DEFINITE = (Tier.NOTE, Tier.EMAIL_AND_COMPANY, Tier.COMPANY_AND_COUNTRY)


@dataclass(frozen=True, slots=True)
class Candidate:
    crm_id: str
    ion_id: str
    tier: Tier

    @property
    def score(self) -> float:
        return SCORES[self.tier]


class Verdict(StrEnum):
    LINK = "link"
    REVIEW = "review"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Match:
    verdict: Verdict
    candidates: tuple[Candidate, ...] = ()

    @property
    def how(self) -> How:
        return How(self.candidates[0].tier.value)


def tier_of(crm: Record, ion: Record) -> Tier | None:
    """The strongest tier that holds between two customers."""
    mine, theirs = keys_of(crm), keys_of(ion)
    if mine.noted_ion_id is not None:
        # A note that names another customer rules this one out.
        return Tier.NOTE if mine.noted_ion_id == ion.customer_id else None
    same_email = mine.email is not None and mine.email == theirs.email
    same_company = mine.company is not None and mine.company == theirs.company
    if same_email and same_company:
        return Tier.EMAIL_AND_COMPANY
    if same_company and mine.country is not None and mine.country == theirs.country:
        return Tier.COMPANY_AND_COUNTRY
    if same_email:
        return Tier.EMAIL_ONLY
    return Tier.COMPANY_ONLY if same_company else None


def match(customer: Record, others: Iterable[Record], rivals: Iterable[Record]) -> Match:
    """Judge one unlinked customer.

    ``others``: unlinked customers of the other side that share a key with it.
    ``rivals``: unlinked customers of its own side that share a key with any of those.
    """
    others = tuple(others)
    candidates = sorted(_candidates(customer, others), key=lambda c: (-c.score, c.crm_id, c.ion_id))
    if not candidates:
        return Match(Verdict.NEW)
    best = candidates[0]
    tied = [candidate for candidate in candidates if candidate.tier is best.tier]
    if best.tier not in DEFINITE or len(tied) > 1:
        return Match(Verdict.REVIEW, tuple(candidates))
    counterpart = next(o for o in others if o.customer_id == _other_id(customer, best))
    if any(_is_rival(rival, customer, counterpart, best) for rival in rivals):
        return Match(Verdict.REVIEW, tuple(candidates))
    return Match(Verdict.LINK, (best,))


def _candidates(customer: Record, others: Iterable[Record]) -> Iterable[Candidate]:
    for other in others:
        crm, ion = (customer, other) if customer.side is Side.CRM else (other, customer)
        tier = tier_of(crm, ion)
        if tier is not None:
            yield Candidate(crm.customer_id, ion.customer_id, tier)


def _other_id(customer: Record, candidate: Candidate) -> str:
    return candidate.ion_id if customer.side is Side.CRM else candidate.crm_id


def _is_rival(rival: Record, customer: Record, counterpart: Record, best: Candidate) -> bool:
    if rival.customer_id == customer.customer_id:
        return False
    crm, ion = (rival, counterpart) if customer.side is Side.CRM else (counterpart, rival)
    tier = tier_of(crm, ion)
    return tier is not None and SCORES[tier] >= best.score
