"""Which customer of the other side is this one? (S8)

=====  ===============================================  ============  ==========
tier   evidence                                         one clear     several
=====  ===============================================  ============  ==========
1      the CRM carries the ION id                       link          review
2      same e-mail and same company                     link          review
3      same company and same country, hardly a doubt    link          review
4      alike beyond doubt (``likeness``)                link          review
near   alike; same e-mail or company, nothing more      review        review
none   nothing                                          new           --
=====  ===============================================  ============  ==========

*Clear* holds in both directions: no other free customer, on this side or that, comes close.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from syncd.core.likeness import DEFINITE as DEFINITE_SCORE
from syncd.core.likeness import DOUBTS, MARGIN, NEAR, Evidence, evidence, score_of, traits_of
from syncd.core.link import How, Link
from syncd.core.record import Record
from syncd.core.values import Field, Side, Value

MAX_KEY = 400
"""Characters of a key; what is alike that far is alike. An index takes no longer ones."""


def match_key(value: Value) -> str | None:
    """What exact matching compares: no case, no accents' encoding, no stray spaces."""
    if not isinstance(value, str):
        return None
    plain = value if value.isascii() else unicodedata.normalize("NFKC", value)
    return " ".join(plain.split()).casefold()[:MAX_KEY] or None


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
    LIKENESS = "likeness"
    EMAIL_ONLY = "email-only"
    COMPANY_ONLY = "company-only"


SCORES = {
    Tier.NOTE: 1.0,
    Tier.EMAIL_AND_COMPANY: 0.98,
    Tier.COMPANY_AND_COUNTRY: 0.92,
    Tier.EMAIL_ONLY: 0.6,
    Tier.COMPANY_ONLY: 0.5,
}
"""What a tier is worth by itself; likeness may add to the last two."""
DEFINITE = (Tier.NOTE, Tier.EMAIL_AND_COMPANY, Tier.COMPANY_AND_COUNTRY)


@dataclass(frozen=True, slots=True)
class Candidate:
    crm_id: str
    ion_id: str
    tier: Tier
    evidence: tuple[Evidence, ...] = ()

    @property
    def score(self) -> float:
        likeness = 0.0 if self.tier in DEFINITE else score_of(self.evidence)
        return max(SCORES.get(self.tier, 0.0), likeness)

    @property
    def is_definite(self) -> bool:
        return self.tier in DEFINITE or self.score >= DEFINITE_SCORE


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


def compare(crm: Record, ion: Record) -> Candidate | None:
    """Whether and how these two may be one."""
    found = evidence(traits_of(crm), traits_of(ion))
    tier = tier_of(crm, ion, found)
    return None if tier is None else Candidate(crm.customer_id, ion.customer_id, tier, found)


def drifted(link: Link, crm: Record, ion: Record) -> Candidate | None:
    """What is left of the likeness of a linked pair that nobody would suggest today; ``None``: it is one still.

    Where a side has no company to compare, nothing speaks against the pair but the CRM's note. What a
    person linked is one.
    """
    mine, theirs = keys_of(crm), keys_of(ion)
    if link.how is How.PERSON or mine.noted_ion_id == link.ion_id:
        return None
    if mine.noted_ion_id is None:
        is_known = mine.company is not None and theirs.company is not None
        if not is_known or mine.company == theirs.company or mine.email == theirs.email is not None:
            return None
    found = evidence(traits_of(crm), traits_of(ion))
    if mine.noted_ion_id is None and score_of(found) >= NEAR:
        return None
    return Candidate(crm.customer_id, ion.customer_id, Tier.LIKENESS, found)


def tier_of(crm: Record, ion: Record, found: Sequence[Evidence]) -> Tier | None:
    """The strongest tier that holds between two customers."""
    mine, theirs = keys_of(crm), keys_of(ion)
    if mine.noted_ion_id is not None:
        # A note that names another customer rules this one out.
        return Tier.NOTE if mine.noted_ion_id == ion.customer_id else None
    same_email = mine.email is not None and mine.email == theirs.email
    same_company = mine.company is not None and mine.company == theirs.company
    if same_email and same_company:
        return Tier.EMAIL_AND_COMPANY
    same_country = mine.country is not None and mine.country == theirs.country
    is_doubted = Evidence.OTHER_PLACE in found or len(DOUBTS.intersection(found)) > 1
    if same_company and same_country and not is_doubted:
        return Tier.COMPANY_AND_COUNTRY
    if same_email:
        return Tier.EMAIL_ONLY
    if same_company:
        return Tier.COMPANY_ONLY
    return Tier.LIKENESS if score_of(found) >= NEAR else None


def candidates_of(customer: Record, others: Iterable[Record]) -> tuple[Candidate, ...]:
    """Who of them may be this customer, the best first."""
    found = [c for other in others if (c := _compare(customer, other)) is not None]
    return tuple(sorted(found, key=lambda c: (-c.score, c.crm_id, c.ion_id)))


def match(customer: Record, others: Iterable[Record], rivals: Iterable[Record]) -> Match:
    """Judge one unlinked customer.

    ``others``: unlinked customers of the other side that share a key or a block with it.
    ``rivals``: unlinked customers of its own side that share one with the best of those.
    """
    by_id = {other.customer_id: other for other in others}
    candidates = candidates_of(customer, by_id.values())
    if not candidates:
        return Match(Verdict.NEW)
    best = candidates[0]
    counterpart = by_id[best.ion_id if customer.side is Side.CRM else best.crm_id]
    theirs = [_compare(rival, counterpart) for rival in rivals if rival.customer_id != customer.customer_id]
    if not best.is_definite or any(_comes_close(other, best) for other in (*candidates[1:], *theirs)):
        return Match(Verdict.REVIEW, candidates)
    return Match(Verdict.LINK, (best,))


def _compare(mine: Record, theirs: Record) -> Candidate | None:
    return compare(mine, theirs) if mine.side is Side.CRM else compare(theirs, mine)


def _comes_close(other: Candidate | None, best: Candidate) -> bool:
    """An exact tier is passed by none but its equals; likeness has to be ahead of everybody by a margin."""
    if other is None:
        return False
    if best.tier in DEFINITE:
        return other.score >= best.score
    return other.score > best.score - MARGIN
