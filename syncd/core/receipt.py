"""What a side's answer to our write means for the link: base, spellings, refusals (S5, S6).

Next in the flow: nothing. The pair is confirmed, and looked at once more for what came meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from syncd.core.intent import Intent
from syncd.core.link import Link, Spelling
from syncd.core.policy import Policy
from syncd.core.values import Field, Side, Value, Values


@dataclass(frozen=True, slots=True)
class Receipt:
    link: Link
    confirmed: tuple[Field, ...]
    """Fields that the side now holds as we wrote them, or in a spelling of its own."""
    ignored: tuple[Field, ...]
    """Fields that the side left as they were, without saying so."""


def receive(link: Link, intent: Intent, held: Values, policy: Policy, region: str | None) -> Receipt:
    """``held``: the answer's values; a field that it lacks is taken as done."""
    base, spellings = dict(link.base), dict(link.spellings)
    confirmed, ignored = [], []
    for name, sent in intent.set.items():
        got = held.get(name, sent)
        if is_same(policy, name, got, sent, region):
            spellings.pop((intent.side, name), None)
        elif is_same(policy, name, got, intent.expect.get(name), region):
            ignored.append(name)
            continue
        else:
            spellings[intent.side, name] = Spelling(sent, got)
        base[name] = sent
        confirmed.append(name)
    return Receipt(replace(link, base=base, spellings=spellings), tuple(confirmed), tuple(ignored))


def arrived(intent: Intent, held: Values, policy: Policy, region: str | None) -> tuple[Field, ...]:
    """The fields of an open intent that the side already holds as written: an echo, or a lost answer."""
    return tuple(
        name for name, sent in intent.set.items() if name in held and is_same(policy, name, held[name], sent, region)
    )


def agree_on(link: Link, values: Mapping[Field, Value]) -> Link:
    return replace(link, base={**link.base, **values}) if values else link


def is_same(policy: Policy, name: Field, mine: Value, theirs: Value, region: str | None) -> bool:
    """Equality on canonical values."""
    rule = policy.rules.get(name)
    return mine == theirs or (rule is not None and rule.key(mine, region) == rule.key(theirs, region))


def region_of(crm: Mapping[Field, Value], ion: Mapping[Field, Value]) -> str | None:
    country = ion.get(Field.COUNTRY) or crm.get(Field.COUNTRY)
    return country if isinstance(country, str) else None


def side_label(side: Side) -> str:
    return {Side.CRM: "the CRM", Side.ION: "ION"}[side]
