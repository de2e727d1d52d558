"""Made-up customers of both sides, of whom it is known who is who: for measuring the matching.

A customer that both sides have is spelt as people spell: typing errors, swapped words, other legal forms,
another mailbox, a moved office. Beside them stand those that are easily taken for one another: branches
of one name in several towns, companies of one family in one building, mergers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from syncd.core.likeness import CROWDED, blocks_of, nearest_of
from syncd.core.match import Verdict, keys_of
from syncd.core.record import Position, Record, sighted
from syncd.core.values import Address, Field, Millis, Side, Value
from syncd.engine.facts import Facts
from syncd.engine.intents import Intents
from syncd.engine.links import LinkBook
from syncd.engine.pairing import Pairing

ONSETS = re.split(" ", "b br c ch d dr f fl g gr h j k l m n p pr qu r s sh st t tr v w z")
NUCLEI = re.split(" ", "a e i o u ai ea io ou")
CODAS = re.split(" ", "l n r s t x m nd rt ck ss")
TRADES = re.split(
    r"\s+",
    """Consulting Traders Logistics Bakery Dental Roofing Software Legal Partners Engineering Foods Optics Motors
    Solutions Services Group Systems Architects Printing Farms Security Travel Marine Textiles Electric""",
)
FORMS = {
    "US": ["Inc.", "LLC", "Corp.", "Co.", ""],
    "DE": ["GmbH", "GmbH & Co. KG", "AG", ""],
    "GB": ["Ltd", "PLC", ""],
}
TOWNS = {
    "US": [
        "Tampa FL 33602",
        "Austin TX 73301",
        "Boise ID 83702",
        "Fargo ND 58102",
        "Macon GA 31201",
        "Salem OR 97301",
    ],
    "DE": ["Ulm BW 89073", "Köln NW 50667", "Kiel SH 24103", "Erfurt TH 99084", "Mainz RP 55116"],
    "GB": ["Leeds LDS LS1", "Bath BAS BA1", "York YOR YO1", "Derby DER DE1"],
}
STREETS = re.split(" ", "Main Oak Lake Mill Church Park Station Bridge Garden Market High Spring")
SURNAMES = re.split(" ", "Müller García O'Neil Smith Nowak Lefèvre Jones Schäfer Brown Ørsted")


@dataclass(slots=True)
class Population:
    crm: dict[str, Record] = field(default_factory=dict)
    ion: dict[str, Record] = field(default_factory=dict)
    truth: dict[str, str] = field(default_factory=dict)
    """CRM id to ION id, of those that are one."""
    domains: set[str] = field(default_factory=set)
    """Taken: a domain belongs to one company, or to one family of companies."""

    def put(self, side: Side, values: Mapping[Field, Value]) -> str:
        here = self.crm if side is Side.CRM else self.ion
        number = f"{'C' if side is Side.CRM else ''}{len(here) + 1}"
        at = Millis(1)
        held = {
            n.value: (sighted(v, at, True, Position(None, at, 0), at),) for n, v in values.items() if v is not None
        }
        here[number] = Record(side, number, held)
        return number

    def pair(self, values: Mapping[Field, Value], respelt: Mapping[Field, Value]) -> None:
        self.truth[self.put(Side.CRM, values)] = self.put(Side.ION, respelt)


def make_population(size: int, seed: int) -> Population:
    """``size`` customers on either side or so, three in four of them the same."""
    people, rng = Population(), Random(seed)
    while len(people.crm) < size:
        kind = rng.choices(("plain", "branches", "family", "merger"), (90, 4, 4, 2))[0]
        first = _customer(people, rng)
        if kind == "plain":
            _enter(people, rng, first)
        elif kind == "branches":  # one name, one domain, several towns: each a customer of its own
            for _ in range(rng.randint(2, 4)):
                other = _customer(people, rng, str(first[Field.COUNTRY]))
                _enter(people, rng, {**other, Field.COMPANY: first[Field.COMPANY], Field.EMAIL: _mail(rng, first)})
        elif kind == "family":  # one building, one switchboard, one domain
            for _ in range(2):
                other = _customer(people, rng, str(first[Field.COUNTRY]))
                _enter(people, rng, {**first, Field.COMPANY: other[Field.COMPANY], Field.EMAIL: _mail(rng, first)})
        else:  # the CRM still has both, ION only the one that bought the other
            bought = {**_customer(people, rng, str(first[Field.COUNTRY])), Field.EMAIL: _mail(rng, first)}
            people.pair(first, _respell(rng, first))
            people.put(Side.CRM, bought)
    return people


def _enter(people: Population, rng: Random, values: dict[Field, Value]) -> None:
    fate = rng.random()
    if fate < 0.6:
        people.pair(values, _respell(rng, values))
    elif fate < 0.8:
        people.put(Side.CRM, values)
    else:
        people.put(Side.ION, values)


def _customer(people: Population, rng: Random, country: str | None = None) -> dict[Field, Value]:
    country = country or rng.choices(("US", "DE", "GB"), (6, 2, 2))[0]
    stem = rng.choice(SURNAMES) if rng.random() < 0.1 else _word(rng)
    second = f" {_word(rng)}" if rng.random() < 0.3 else ""
    trade = f" {rng.choice(TRADES)}" if rng.random() < 0.7 else ""
    name = f"{stem}{second}{trade}"
    domain = f"{name.casefold().replace(' ', '')[:16].strip(chr(39))}{rng.choice(('', '-group', '24'))}.example"
    while domain in people.domains:
        domain = f"{_word(rng).casefold()}-{domain}"
    people.domains.add(domain)
    city, state, zip_code = rng.choice(TOWNS[country]).split()
    street = f"{rng.randint(1, 400)} {rng.choice(STREETS)} Street"
    return {
        Field.COMPANY: f"{name} {rng.choice(FORMS[country])}".strip(),
        Field.EMAIL: f"{rng.choice(('info', 'office', 'ann', 'it', 'billing'))}@{domain}",
        Field.COUNTRY: country,
        Field.PHONE: f"+1{rng.randint(2_000_000_000, 9_999_999_999)}",
        Field.ADDRESS: Address(street, "", city, state, zip_code),
        Field.CONTACT: f"{rng.choice(('Ann', 'Bob', 'Cleo', 'Dan'))} {rng.choice(SURNAMES)}",
    }


def _respell(rng: Random, values: Mapping[Field, Value]) -> dict[Field, Value]:
    """The same customer, as somebody else entered it."""
    found = dict(values)
    country, name = str(values[Field.COUNTRY]), str(values[Field.COMPANY])
    if rng.random() < 0.3:
        bare = next((name[: -len(form)] for form in FORMS[country] if form and name.endswith(f" {form}")), name)
        name = f"{bare.strip()} {rng.choice(FORMS[country])}".strip()
    if rng.random() < 0.15:
        name = _mistype(rng, name)
    if rng.random() < 0.05 and " " in name:
        first, rest = name.split(" ", 1)
        name = f"{rest} {first}"
    found[Field.COMPANY] = name.upper() if rng.random() < 0.1 else name
    mail = rng.random()
    if mail > 0.5:
        found[Field.EMAIL] = _mail(rng, values) if mail < 0.9 else f"{_word(rng)}{rng.randint(1, 99)}@gmail.com"
    if rng.random() > 0.6:
        found[Field.PHONE] = f"+1{rng.randint(2_000_000_000, 9_999_999_999)}" if rng.random() < 0.7 else None
    place = values[Field.ADDRESS]
    assert isinstance(place, Address)
    moved = rng.random()
    if moved < 0.25:
        found[Field.ADDRESS] = Address(place.street.replace("Street", "St."), "", place.city, place.state, place.zip)
    elif moved < 0.35:
        city, state, zip_code = rng.choice(TOWNS[country]).split()
        found[Field.ADDRESS] = Address(f"{rng.randint(1, 400)} New Road", "", city, state, zip_code)
    elif moved < 0.4:
        found[Field.ADDRESS] = None
    return found


def _mail(rng: Random, values: Mapping[Field, Value]) -> str:
    """Another mailbox of the same domain."""
    return f"{_word(rng).casefold()}@{str(values[Field.EMAIL]).partition('@')[2]}"


def _mistype(rng: Random, name: str) -> str:
    at = rng.randrange(1, len(name))
    kind = rng.randrange(3)
    if kind == 0:
        return name[:at] + name[at + 1 :]
    if kind == 1:
        return name[:at] + name[at - 1] + name[at:]
    return name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :]


def _word(rng: Random) -> str:
    syllables = (rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(("", *CODAS)) for _ in range(rng.randint(2, 3)))
    return "".join(syllables).capitalize()


class Unlinked:
    """Finds customers without a link as the stores do, fast enough for very many."""

    def __init__(self, population: Population) -> None:
        self._records = {Side.CRM: dict(population.crm), Side.ION: dict(population.ion)}
        self._by_key: dict[tuple[Side, str], dict[str, None]] = defaultdict(dict)
        for side, records in self._records.items():
            for record in records.values():
                for key in self._keys(record):
                    self._by_key[side, key][record.customer_id] = None

    def link(self, crm_id: str, ion_id: str) -> None:
        for side, number in ((Side.CRM, crm_id), (Side.ION, ion_id)):
            for key in self._keys(self._records[side].pop(number)):
                del self._by_key[side, key][number]

    def get(self, side: Side, number: str) -> Record | None:
        return self._records[side].get(number)

    async def rejected(self, customer: Record) -> set[str]:
        return set()

    async def look_alikes(self, customer: Record, side: Side) -> list[Record]:
        found = [number for key in self._exact(customer) for number in self._by_key[side, key]]
        return [self._records[side][number] for number in sorted(set(found))[:50]]

    async def neighbours(self, customer: Record, side: Side) -> list[Record]:
        members = [list(self._by_key[side, block])[: CROWDED + 1] for block in blocks_of(customer)]
        return [self._records[side][number] for number in nearest_of(members)]

    def _exact(self, record: Record) -> list[str]:
        keys = keys_of(record)
        return [f"{name} is {key}" for name, key in (("e", keys.email), ("c", keys.company)) if key]

    def _keys(self, record: Record) -> list[str]:
        return [*self._exact(record), *blocks_of(record)]


@dataclass(slots=True)
class Measured:
    links: dict[str, str] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    how: Counter[str] = field(default_factory=Counter)
    in_review: dict[tuple[Side, str], list[tuple[str, str]]] = field(default_factory=dict)

    def precision(self) -> float:
        return 1 - len(self.wrong) / max(1, len(self.links))

    def recall(self, people: Population) -> float:
        return sum(people.truth.get(crm_id) == ion_id for crm_id, ion_id in self.links.items()) / len(people.truth)

    def shown(self, people: Population) -> float:
        """Of the pairs that were not linked: how many a person is asked about."""
        left = {pair for pair in people.truth.items() if pair[0] not in self.links}
        asked = {pair for candidates in self.in_review.values() for pair in candidates}
        return len(left & asked) / max(1, len(left))


async def measure(people: Population, seed: int) -> Measured:
    """Judge everybody, both sides mixed, until nobody is linked any more."""
    unlinked, found = Unlinked(people), Measured()
    pairing = Pairing(Facts(0, 0, ""), cast(Intents, None), cast(LinkBook, None))  # judging needs neither
    everyone = [(Side.CRM, number) for number in people.crm] + [(Side.ION, number) for number in people.ion]
    Random(seed).shuffle(everyone)
    for side, number in everyone:
        record = unlinked.get(side, number)
        if record is None:
            continue
        judged = await pairing.judge(cast(Any, unlinked), record)
        if judged.verdict is Verdict.REVIEW:
            found.in_review[side, number] = [(c.crm_id, c.ion_id) for c in judged.candidates]
        if judged.verdict is Verdict.LINK:
            best = judged.candidates[0]
            found.links[best.crm_id] = best.ion_id
            found.how[best.tier.value] += 1
            unlinked.link(best.crm_id, best.ion_id)
            if people.truth.get(best.crm_id) != best.ion_id:
                found.wrong.append((best.crm_id, best.ion_id))
    return found
