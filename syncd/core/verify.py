"""Do both sides hold the same? Asked by code that shares nothing with the merge (S16). Pure.

It knows no stamps, no bases and no rules of who wins: it takes what each side holds, field by field,
and says where that differs. What may differ by the mapping's own table is told apart as *kept*.

``Latest`` is a second, simpler reading of events: the last one said of a field counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from syncd.core.link import Link
from syncd.core.policy import Access, Direction, FieldRule
from syncd.core.record import Observation, Position, Record, compare
from syncd.core.values import Address, Field, Millis, Side, Value, Values

_SPACES = re.compile(r"\s+")


class Standing(StrEnum):
    """Why two sides may differ at this moment."""

    KEPT = "kept"
    """The mapping does not let the field flow both ways: it may stay so."""
    UNDER_WAY = "under-way"
    """An event, a change or a call is on its way."""
    WAITING = "waiting"
    """For a person, or for the customer's own record to change."""
    UNEXPLAINED = "unexplained"
    UNSEEN = "unseen"
    """Linked, and ION's listing does not show it."""


PROVEN = (Standing.KEPT,)
OPEN = (Standing.WAITING, Standing.UNEXPLAINED, Standing.UNSEEN)
"""Nothing is under way that would mend these."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one linked customer that the two sides hold differently."""

    crm_id: str
    ion_id: str
    field: Field
    crm: Value
    ion: Value
    standing: Standing
    why: str = ""
    """What it waits for."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """A linked customer who was not proven equal when everybody was last compared."""

    crm_id: str
    ion_id: str
    fields: tuple[str, ...]
    """Empty where one side was not seen."""
    standing: Standing
    since: Millis
    """When it was first found so."""
    equal_until: Millis
    """When both sides were last proven equal; where they never were, when they were linked."""


def differences(link: Link, crm: Values, ion: Values, rules: Iterable[FieldRule]) -> list[Difference]:
    """Field by field. What a side can't show, or never mentioned, can't be compared."""
    found = []
    for rule in rules:
        name = rule.field
        if rule.direction is Direction.OFF or Access.READ not in rule.ion or name not in crm:
            continue
        mine, theirs = _written(link, Side.CRM, name, crm[name]), _written(link, Side.ION, name, ion.get(name))
        if _plain(mine) == _plain(theirs):
            continue
        country = ion.get(Field.COUNTRY) or crm.get(Field.COUNTRY)
        region = country if isinstance(country, str) else None
        if rule.key(mine, region) == rule.key(theirs, region):
            continue
        standing = Standing.KEPT if _may_differ(rule, link, mine, theirs) else Standing.UNEXPLAINED
        found.append(Difference(link.crm_id, link.ion_id, name, crm[name], ion.get(name), standing))
    return found


def _may_differ(rule: FieldRule, link: Link, mine: Value, theirs: Value) -> bool:
    """It flows one way, and its source holds what was agreed on: the other side has moved, and may."""
    to_crm, to_ion = rule.may_write_to(Side.CRM), rule.may_write_to(Side.ION)
    if to_crm and to_ion:
        return False
    source = theirs if to_crm else mine
    return not (to_crm or to_ion) or rule.field not in link.base or _plain(source) == _plain(link.base[rule.field])


def _written(link: Link, side: Side, name: Field, value: Value) -> Value:
    """A side's own spelling of what it was given counts as that."""
    known = link.spellings.get((side, name))
    return known.written if known is not None and known.read == value else value


def _plain(value: Value) -> object:
    if isinstance(value, Address):
        return tuple(_plain(part) for part in (value.street, value.suite, value.city, value.state, value.zip))
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", value)).strip() if value else ""


@dataclass(slots=True)
class Latest:
    """What events said last, by CRM customer and field."""

    held: dict[str, dict[str, tuple[Position, Value]]] = field(default_factory=dict)

    def take(self, observations: Iterable[Observation]) -> None:
        for seen in observations:
            known = self.held.setdefault(seen.customer_id, {})
            for name, value in seen.values.items():
                if name not in known or compare(seen.position, known[name][0]) > 0:
                    known[name] = (seen.position, value)

    def values(self, record: Record) -> dict[Field, Value]:
        """What a customer holds by these events, or by its record where no event told of it or that is newer."""
        told, values = self.held.get(record.customer_id, {}), record.values()
        for name, (position, value) in told.items():
            register = record.registers.get(name)
            if name in list(Field) and (register is None or compare(register[0], position) <= 0):
                values[Field(name)] = value
        return values


def unproven(
    found: Iterable[Difference], unseen: Iterable[Link], links: Mapping[str, Millis],
    before: Mapping[str, Divergence], proven: Millis, now: Millis,
) -> list[Divergence]:  # fmt: skip
    """Who was not proven equal, and since when.

    ``links``: when each of them was linked. ``before``: who was not proven equal the last time, by CRM
    id; ``proven``: when that was, and all others were.
    """
    told = dict[tuple[str, str], list[Difference]]()
    for difference in found:
        if difference.standing not in PROVEN:
            told.setdefault((difference.crm_id, difference.ion_id), []).append(difference)
    rows = [(*ids, tuple(d.field.value for d in mine), mine[0].standing) for ids, mine in told.items()]
    rows += [(link.crm_id, link.ion_id, (), Standing.UNSEEN) for link in unseen]
    return [
        Divergence(
            crm_id,
            ion_id,
            fields,
            standing,
            before[crm_id].since if crm_id in before else now,
            before[crm_id].equal_until if crm_id in before else Millis(max(proven, links[crm_id])),
        )
        for crm_id, ion_id, fields, standing in rows
    ]
