"""S8: how alike two customers are, and who is compared with whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.likeness import (
    CROWDED,
    DEFINITE,
    NEAR,
    Evidence,
    bare_name,
    blocks_of,
    evidence,
    nearest_of,
    score_of,
    trait_values,
    traits_of,
)
from syncd.core.match import Tier, Verdict, match
from syncd.core.record import Position, Record, sighted
from syncd.core.values import Address, Field, Millis, Side, Value
from tests.parts.population import make_population, measure

TAMPA = Address("1 Main Street", "", "Tampa", "FL", "33602")
NORTHWIND: dict[Field, Value] = {
    Field.COMPANY: "Northwind Traders, Inc.",
    Field.EMAIL: "info@northwind.example",
    Field.COUNTRY: "US",
    Field.PHONE: "+1 (813) 555-0142",
    Field.ADDRESS: TAMPA,
    Field.CONTACT: "Ann Archer",
}


def record(side: Side, number: str, values: dict[Field, Value]) -> Record:
    at = Millis(1)
    position = Position(None, at, 0)
    held = {name.value: (sighted(v, at, True, position, at),) for name, v in values.items() if v is not None}
    return Record(side, number, held)


def crm(number: str = "C1", **other: Value) -> Record:
    return record(Side.CRM, number, NORTHWIND | {Field(name): value for name, value in other.items()})


def ion(number: str = "7", **other: Value) -> Record:
    return record(Side.ION, number, NORTHWIND | {Field(name): value for name, value in other.items()})


NAMES = [
    ("Northwind Traders, Inc.", "northwind traders"),
    ("The Northwind Traders LLC", "northwind traders"),
    ("Müller & Söhne GmbH & Co. KG", "muller and sohne"),
    ("Société Générale S.A.", "societe generale"),
    ("A.B.C. Consulting B.V.", "abc consulting"),
    ("O'Neil Bakery Ltd", "oneil bakery"),
    ("Ørsted A/S", "orsted"),
    ("ООО Ромашка", "romashka"),
    ("Limited", "limited"),
    ("The The", "the the"),
    ("  ", ""),
]


@pytest.mark.parametrize(("company", "bare"), NAMES)
def test_a_name_without_what_people_spell_differently(company: str, bare: str) -> None:
    assert bare_name(company) == bare


ALIKE = [
    pytest.param({}, Evidence.SAME_NAME, id="the same"),
    pytest.param({"company": "Northwind Traders"}, Evidence.SAME_NAME, id="no legal form"),
    pytest.param({"company": "Northwnd Traders"}, Evidence.CLOSE_NAME, id="a typing error"),
    pytest.param({"company": "Traders Northwind"}, Evidence.CLOSE_NAME, id="swapped words"),
    pytest.param({"company": "North Wind Traders"}, Evidence.CLOSE_NAME, id="a space more"),
    pytest.param({"company": "Northwind"}, Evidence.LIKE_NAME, id="a word less"),
    pytest.param({"company": "Zebra Bakery"}, Evidence.OTHER_NAME, id="another name"),
    pytest.param({"email": "info@northwind.example"}, Evidence.SAME_EMAIL, id="the e-mail"),
    pytest.param({"email": "ann@northwind.example"}, Evidence.SAME_DOMAIN, id="another mailbox"),
    pytest.param({"email": "info@else.example"}, Evidence.OTHER_DOMAIN, id="another domain"),
    pytest.param({"phone": "813.555.0142"}, Evidence.SAME_PHONE, id="a phone in another spelling"),
    pytest.param({"phone": "813.555.0143"}, Evidence.OTHER_PHONE, id="another phone"),
    pytest.param({"address": Address("1 MAIN ST.", "", "tampa", "FL", "33602")}, Evidence.SAME_STREET, id="a street"),
    pytest.param(
        {"address": Address("11 Main Street", "", "Tampa", "FL", "33602")}, Evidence.OTHER_STREET, id="no. 11"
    ),
    pytest.param({"address": Address("", "", "Tampa", "FL", "33602")}, Evidence.SAME_PLACE, id="a town"),
    pytest.param({"address": Address("1 Main Street", "", "Ulm", "", "89073")}, Evidence.OTHER_PLACE, id="a move"),
    pytest.param({"country": "DE"}, Evidence.OTHER_COUNTRY, id="another country"),
    pytest.param({"contact": "ann  archer"}, Evidence.SAME_CONTACT, id="the contact"),
]


@pytest.mark.parametrize(("other", "what"), ALIKE)
def test_what_speaks_for_and_against(other: dict[str, Value], what: Evidence) -> None:
    assert what in evidence(traits_of(crm()), traits_of(ion(**other)))


SILENT = [
    pytest.param({"company": None}, id="no name"),
    pytest.param({"company": "Northgate Optics"}, id="a name that is neither like nor unlike"),
    pytest.param({"email": "northwind@gmail.com"}, id="a mail provider's domain"),
    pytest.param({"phone": None}, id="no phone"),
    pytest.param({"address": None}, id="no address"),
    pytest.param({"address": Address("1 Main Street", "", "", "", "")}, id="a street of no town"),
    pytest.param({"country": None, "contact": None}, id="neither country nor contact"),
]


@pytest.mark.parametrize("other", SILENT)
def test_what_is_not_known_says_nothing(other: dict[str, Value]) -> None:
    found = evidence(traits_of(crm()), traits_of(ion(**other)))
    assert len(found) < len(evidence(traits_of(crm()), traits_of(ion())))
    assert not any(what in found for what in (Evidence.OTHER_NAME, Evidence.OTHER_DOMAIN, Evidence.OTHER_PLACE))


def test_numbers_tell_branches_apart() -> None:
    mine, theirs = crm(company="Pharmacy 104"), ion(company="Pharmacy 105")
    assert Evidence.OTHER_NAME in evidence(traits_of(mine), traits_of(theirs))
    assert Evidence.OTHER_NAME not in evidence(traits_of(mine), traits_of(ion(company="Pharmacy")))


VERDICTS = [
    pytest.param(
        {"company": "Northwnd Traders", "email": "ann@northwind.example"}, Verdict.LINK, id="one typing error"
    ),
    pytest.param(
        {"company": "Northwind Tampa", "email": "a@gmail.com", "phone": None},
        Verdict.REVIEW,
        id="a like name in town",
    ),
    pytest.param(
        {"company": "Zebra Bakery", "email": "z@zebra.example", "phone": None, "contact": None},
        Verdict.NEW,
        id="another in the same house",
    ),
    pytest.param(
        {"email": "ulm@northwind.example", "address": Address("9 Ring", "", "Ulm", "", "89073"), "phone": "5"},
        Verdict.REVIEW,
        id="a branch in another town",
    ),
]


@pytest.mark.parametrize(("other", "verdict"), VERDICTS)
def test_verdicts(other: dict[str, Value], verdict: Verdict) -> None:
    assert match(crm(), [ion(**other)], []).verdict is verdict


def test_likeness_links_only_ahead_of_all_others() -> None:
    spelt: dict[str, Value] = {"company": "Northwnd Traders", "email": "ann@northwind.example"}
    found = match(crm(), [ion(**spelt)], [])
    assert (found.verdict, found.candidates[0].tier) == (Verdict.LINK, Tier.LIKENESS)
    assert found.candidates[0].score >= DEFINITE
    assert match(crm(), [ion("7", **spelt), ion("8", **spelt)], []).verdict is Verdict.REVIEW
    assert match(crm(), [ion(**spelt)], [crm("C2", email="bob@northwind.example")]).verdict is Verdict.REVIEW
    assert match(crm(), [ion(**spelt)], [crm("C2", company="Zebra", email="z@z.example")]).verdict is Verdict.LINK


def test_a_score_stays_between_nothing_and_certainty() -> None:
    assert score_of(Evidence) <= 1.0
    assert score_of([Evidence.OTHER_COUNTRY, Evidence.OTHER_NAME]) == 0.0
    assert NEAR < DEFINITE


def test_blocks_bring_spellings_of_one_together() -> None:
    mine = set(blocks_of(crm()))
    for company in ("Northwnd Traders", "Traders Northwind", "NORTHWIND", "Northwynd-Traders Ltd"):
        assert mine & set(blocks_of(ion(company=company, email="x@gmail.com", phone=None, address=None))), company
    strangers = ion(company="Zebra Bakery", email="x@gmail.com", phone="1", address=None)
    assert not mine & set(blocks_of(strangers))
    assert blocks_of(record(Side.CRM, "C9", {})) == ()


def test_blocks_change_only_with_the_values_they_are_made_of() -> None:
    assert trait_values(crm()) == trait_values(crm(contact="Bob", country="DE"))
    for name, value in {"company": "X", "email": "x", "phone": "1", "address": None}.items():
        assert trait_values(crm()) != trait_values(crm(**{name: value}))


def test_crowded_blocks_tell_nothing_and_the_nearest_come_first() -> None:
    crowd = [str(number) for number in range(CROWDED + 1)]
    assert nearest_of([crowd, ["b", "a"], ["b"]]) == ["b", "a"]


words = st.text(st.characters(codec="utf-8"), max_size=20)
customers = st.fixed_dictionaries(
    {
        Field.COMPANY: st.none() | words,
        Field.EMAIL: st.none() | words,
        Field.PHONE: st.none() | words,
        Field.ADDRESS: st.none() | st.builds(Address, words, words, words, words, words),
        Field.COUNTRY: st.none() | words,
    }
)


@given(customers, customers)
def test_it_does_not_matter_who_is_compared_with_whom(mine: dict[Field, Value], theirs: dict[Field, Value]) -> None:
    one, other = traits_of(record(Side.CRM, "C1", mine)), traits_of(record(Side.ION, "7", theirs))
    assert evidence(one, other) == evidence(other, one)


async def test_nearly_all_links_made_by_itself_are_right() -> None:
    """Made customers of whom it is known who is who; ``python -m bench.matching`` measures many more."""
    people = make_population(3_000, seed=7)
    found = await measure(people, 7)
    assert found.precision() >= 0.999
    assert found.recall(people) >= 0.85
    assert found.shown(people) >= 0.9
