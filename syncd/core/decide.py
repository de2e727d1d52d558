"""The decision, field by field: base B, CRM C, ION I in; who is written where out (S3, S4).

========================  ==========================================================
C = I                     agree: B becomes it, nothing is written
I = B, C moved            write C to ION
C = B, I moved            write I to the CRM
both moved and differ     conflict: the stamps decide, else the tie policy (S4)
no base (first link)      a blank takes the other's value; else the first-link policy
the write is forbidden    the difference is kept and counted, never silent
the field is frozen       the same, until a person lets it go on (S6)
========================  ==========================================================

Two special rows follow from the policy's table. A field that the CRM never mentioned is not blank,
it is unknown: ION's value becomes the base, and only a later ION edit is written to the CRM. A
field that ION takes but never shows is written when the CRM moved it, and is else left alone.

Next in the flow: an intent for what is to be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from syncd.core.link import Link
from syncd.core.policy import Access, Direction, FieldRule, FirstLink, Policy, Tie
from syncd.core.record import Record, Stamp
from syncd.core.values import Field, Side, Value


class Rule(StrEnum):
    """Why a field came out as it did. Shown to people and in metrics."""

    AGREE = "agree"
    ONLY_CRM_MOVED = "only-crm-moved"
    ONLY_ION_MOVED = "only-ion-moved"
    LATER_EDIT = "later-edit"
    TIE = "tie"
    FIRST_LINK = "first-link"
    BLANK_FILLED = "blank-filled"
    REVIEW = "review"
    FROZEN = "frozen"


CONFLICTS = frozenset({Rule.LATER_EDIT, Rule.TIE, Rule.FIRST_LINK})
"""Rules under which a value that somebody entered loses, and goes to the archive."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one field."""

    field: Field
    rule: Rule
    winner: Side | None
    crm: Value
    ion: Value
    write_to: Side | None = None
    """The side that is to get the winner's value; ``None`` when there is nothing to write."""
    is_kept: bool = False
    """The sides differ and no write is allowed: counted, never silent."""
    base_moves: bool = False
    base: Value = None
    """With ``base_moves``: what the base becomes without any write."""
    crm_stamp: Stamp | None = None
    ion_stamp: Stamp | None = None

    @property
    def value(self) -> Value:
        return self.ion if self.winner is Side.ION else self.crm

    @property
    def loser(self) -> Value:
        return self.crm if self.winner is Side.ION else self.ion

    @property
    def is_conflict(self) -> bool:
        return self.rule in CONFLICTS and self.write_to is not None


@dataclass(frozen=True, slots=True)
class Decision:
    """All fields of one linked pair."""

    outcomes: tuple[Outcome, ...]
    to_ion: Mapping[Field, Value] = field(default_factory=dict)
    to_crm: Mapping[Field, Value] = field(default_factory=dict)
    base: Mapping[Field, Value] = field(default_factory=dict)

    @property
    def conflicts(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.is_conflict)

    @property
    def kept(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.is_kept)

    @property
    def agreed(self) -> tuple[Field, ...]:
        return tuple(outcome.field for outcome in self.outcomes if outcome.rule is Rule.AGREE)


def decide(link: Link, crm: Record, ion: Record, policy: Policy) -> Decision:
    """Compare both records with the link's base; pure, total, and the same every time."""
    country = ion.value(Field.COUNTRY) or crm.value(Field.COUNTRY)
    region = country if isinstance(country, str) else None
    outcomes = tuple(
        outcome
        for rule in policy.rules.values()
        if (outcome := _decide_field(rule, link, crm, ion, region, policy.skew_ms)) is not None
    )
    return Decision(
        outcomes,
        to_ion=_writes(outcomes, Side.ION),
        to_crm=_writes(outcomes, Side.CRM),
        base={**link.base, **{outcome.field: outcome.base for outcome in outcomes if outcome.base_moves}},
    )


def _writes(outcomes: Iterable[Outcome], side: Side) -> dict[Field, Value]:
    return {outcome.field: outcome.value for outcome in outcomes if outcome.write_to is side}


def _decide_field(
    rule: FieldRule, link: Link, crm: Record, ion: Record, region: str | None, skew_ms: int
) -> Outcome | None:
    name = rule.field
    if rule.direction is Direction.OFF or rule.ion is Access.NONE:
        return None
    if Access.READ not in rule.ion:
        return _decide_unreadable(rule, link, crm, region)
    if not crm.knows(name):
        return _decide_unknown(rule, link, ion, region)
    c = link.spelt(Side.CRM, name, crm.value(name))
    i = link.spelt(Side.ION, name, ion.value(name))

    def same(mine: Value, theirs: Value) -> bool:
        return mine == theirs or rule.key(mine, region) == rule.key(theirs, region)

    crm_stamp = crm.stamp(name)
    ion_stamp = ion.stamp(name) if ion.knows(name) else None
    if same(c, i):
        moves = name not in link.base or link.base[name] != c
        return Outcome(name, Rule.AGREE, None, c, i, base_moves=moves, base=c)
    if name not in link.base:
        why, winner = _first_link(rule, c, i, crm_stamp, ion_stamp, skew_ms)
    elif same(i, link.base[name]):
        why, winner = Rule.ONLY_CRM_MOVED, Side.CRM
    elif same(c, link.base[name]):
        why, winner = Rule.ONLY_ION_MOVED, Side.ION
    else:
        why, winner = _last_writer(rule, crm_stamp, ion_stamp, skew_ms)
    return _allowed(rule, link, Outcome(name, why, winner, c, i, crm_stamp=crm_stamp, ion_stamp=ion_stamp))


def _decide_unreadable(rule: FieldRule, link: Link, crm: Record, region: str | None) -> Outcome | None:
    """ION takes the field but never shows it: the base is what it was last given.

    What the CRM held when the two were linked is left alone; an edit since then, before anybody had looked, is not.
    """
    name = rule.field
    if not crm.knows(name):
        return None
    c, stamp = crm.value(name), crm.stamp(name)
    if name not in link.base and stamp is not None and stamp.earliest > link.since:
        outcome = Outcome(name, Rule.ONLY_CRM_MOVED, Side.CRM, c, None, crm_stamp=stamp)
        return _allowed(rule, link, outcome)
    if name not in link.base:
        return Outcome(name, Rule.AGREE, None, c, c, base_moves=True, base=c)
    held = link.base[name]
    if held == c or rule.key(held, region) == rule.key(c, region):
        return Outcome(name, Rule.AGREE, None, c, c)
    return _allowed(rule, link, Outcome(name, Rule.ONLY_CRM_MOVED, Side.CRM, c, held, crm_stamp=stamp))


def _decide_unknown(rule: FieldRule, link: Link, ion: Record, region: str | None) -> Outcome | None:
    """The CRM never mentioned the field: its first known value on ION becomes the base."""
    name = rule.field
    if not ion.knows(name):
        return None
    i = link.spelt(Side.ION, name, ion.value(name))
    if name not in link.base:
        return Outcome(name, Rule.AGREE, None, i, i, base_moves=True, base=i)
    held = link.base[name]
    if held == i or rule.key(held, region) == rule.key(i, region):
        return Outcome(name, Rule.AGREE, None, i, i)
    outcome = Outcome(name, Rule.ONLY_ION_MOVED, Side.ION, held, i, ion_stamp=ion.stamp(name))
    return _allowed(rule, link, outcome)


def _first_link(
    rule: FieldRule, c: Value, i: Value, crm_stamp: Stamp, ion_stamp: Stamp | None, skew_ms: int
) -> tuple[Rule, Side | None]:
    if c is None or i is None:
        return Rule.BLANK_FILLED, Side.ION if c is None else Side.CRM
    if rule.first_link is FirstLink.NEWEST:
        return _last_writer(rule, crm_stamp, ion_stamp, skew_ms)
    if rule.first_link is FirstLink.REVIEW:
        return Rule.REVIEW, None
    return Rule.FIRST_LINK, Side(rule.first_link.value)


def _last_writer(
    rule: FieldRule, crm_stamp: Stamp, ion_stamp: Stamp | None, skew_ms: int
) -> tuple[Rule, Side | None]:
    """Disjoint intervals: the later wins. Overlapping: nobody can know, and the policy says so."""
    if ion_stamp is not None:
        if ion_stamp.latest + skew_ms < crm_stamp.earliest:
            return Rule.LATER_EDIT, Side.CRM
        if crm_stamp.latest + skew_ms < ion_stamp.earliest:
            return Rule.LATER_EDIT, Side.ION
    if rule.tie is Tie.REVIEW:
        return Rule.REVIEW, None
    return Rule.TIE, Side(rule.tie.value)


def _allowed(rule: FieldRule, link: Link, outcome: Outcome) -> Outcome:
    """Turn a winner into a write where direction and access let it be written."""
    if outcome.field in link.frozen:
        return replace(outcome, rule=Rule.FROZEN, is_kept=True)
    if outcome.winner is None:
        return replace(outcome, is_kept=True)
    target = outcome.winner.other
    if rule.may_write_to(target):
        return replace(outcome, write_to=target)
    # Kept. On a first link the side that can't be written sets the base, so that its own later
    # edits can still be told from the other side's.
    moves = outcome.field not in link.base
    return replace(outcome, is_kept=True, base_moves=moves, base=outcome.loser)
