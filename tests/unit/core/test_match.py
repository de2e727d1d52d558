"""S8: matching by tiers, and review for the ambiguous."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.core.link import How, Link, LinkState
from syncd.core.match import Keys, Match, Tier, Verdict, compare, drifted, keys_of, match, match_key
from syncd.core.record import ION_NOTE, Position, Record, sighted
from syncd.core.values import CrmId, IonId, Millis, Side


def customer(
    side: Side,
    number: str,
    company: str | None = "Acme",
    email: str | None = "a@acme.example",
    country="US",
    note=None,
) -> Record:
    values = {"company": company, "email": email, "country": country, ION_NOTE: note}
    return Record(
        side,
        number,
        {
            name: (sighted(value, Millis(1), True, Position(None, Millis(1), 0), Millis(1)),)
            for name, value in values.items()
            if value is not None
        },
    )


def crm(number: str = "C1", **values: object) -> Record:
    return customer(Side.CRM, number, **values)  # type: ignore[arg-type]


def ion(number: str = "7", **values: object) -> Record:
    return customer(Side.ION, number, **values)  # type: ignore[arg-type]


TIERS = [
    pytest.param(
        crm(note="7"), ion(company="Other", email="o@o.example"), Tier.NOTE, id="the CRM carries the ION id"
    ),
    pytest.param(crm(note="8"), ion(), None, id="a note that names another rules it out"),
    pytest.param(crm(), ion(country="DE"), Tier.EMAIL_AND_COMPANY, id="e-mail and company"),
    pytest.param(crm(email="x@x.example"), ion(), Tier.COMPANY_AND_COUNTRY, id="company and country"),
    pytest.param(crm(company="Other"), ion(), Tier.EMAIL_ONLY, id="e-mail only"),
    pytest.param(crm(email=None, country="DE"), ion(), Tier.COMPANY_ONLY, id="company only"),
    pytest.param(crm(email=None, country=None), ion(country=None), Tier.COMPANY_ONLY, id="no country is no evidence"),
    pytest.param(crm(company="Other", email="x@x.example"), ion(), None, id="nothing"),
    pytest.param(crm(company=None, email=None), ion(company=None, email=None), None, id="blank equals nothing"),
]


@pytest.mark.parametrize(("mine", "theirs", "tier"), TIERS)
def test_tiers(mine: Record, theirs: Record, tier: Tier | None) -> None:
    found = compare(mine, theirs)
    assert (found and found.tier) is tier


PAIRS = [
    pytest.param(crm(), ion(), False, id="alike"),
    pytest.param(crm(company="Other"), ion(), False, id="the same e-mail"),
    pytest.param(crm(email="x@x.example"), ion(), False, id="the same company"),
    pytest.param(
        crm(company="Acme Ltd", email=None), ion(company="ACME Limited", email=None), False, id="alike enough"
    ),
    pytest.param(crm(company="Zebra", email="x@x.example", country="DE"), ion(), True, id="nothing alike"),
    pytest.param(crm(company=None, email="x@x.example"), ion(), False, id="no company to compare"),
    pytest.param(crm(company="Zebra", email=None), ion(company=None, email=None), False, id="none in ION either"),
    pytest.param(crm(note="7", company="Zebra", email="x@x.example"), ion(), False, id="the CRM notes it"),
    pytest.param(crm(note="8"), ion(), True, id="the CRM notes another"),
]


@pytest.mark.parametrize(("mine", "theirs", "is_apart"), PAIRS)
def test_a_linked_pair_drifts_apart(mine: Record, theirs: Record, is_apart: bool) -> None:
    link = Link(CrmId("C1"), IonId("7"), LinkState.LINKED, How.EMAIL_AND_COMPANY, Millis(1), {})
    assert (drifted(link, mine, theirs) is not None) is is_apart
    assert drifted(replace(link, how=How.PERSON), mine, theirs) is None, "a person said so"


def test_one_clear_winner_links_by_itself() -> None:
    found = match(crm(), [ion()], [])
    assert (found.verdict, found.how) == (Verdict.LINK, How.EMAIL_AND_COMPANY)


def test_a_stronger_tier_beats_a_weaker_one() -> None:
    found = match(crm(), [ion("7", email="x@x.example"), ion("8")], [])
    assert found.candidates[0].ion_id == "8"
    assert found.verdict is Verdict.LINK


def test_two_alike_go_to_review() -> None:
    assert match(crm(), [ion("7"), ion("8")], []).verdict is Verdict.REVIEW


def test_a_rival_on_its_own_side_goes_to_review() -> None:
    assert match(crm("C1"), [ion()], [crm("C1"), crm("C2")]).verdict is Verdict.REVIEW
    assert match(ion("7"), [crm()], [ion("7"), ion("8")]).verdict is Verdict.REVIEW


def test_a_weaker_rival_is_none() -> None:
    assert match(crm("C1"), [ion()], [crm("C2", email="x@x.example")]).verdict is Verdict.LINK


def test_near_but_not_definite_goes_to_review() -> None:
    assert match(crm(company="Other"), [ion()], []).verdict is Verdict.REVIEW


def test_nothing_near_means_new() -> None:
    assert match(crm(), [], []) == Match(Verdict.NEW)
    assert match(crm(company="Other", email="x@x.example"), [ion()], []).verdict is Verdict.NEW


def test_it_works_from_ions_side_too() -> None:
    found = match(ion("7"), [crm("C1")], [ion("7")])
    assert (found.candidates[0].crm_id, found.candidates[0].ion_id) == ("C1", "7")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("  Acme   Ltd ", "acme ltd"),
        ("ＡＣＭＥ", "acme"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("", None),
        (None, None),
    ],
)
def test_exact_matching_ignores_case_and_space(value: str | None, key: str | None) -> None:
    assert match_key(value) == key


def test_keys_are_those_of_the_newest_values() -> None:
    assert keys_of(crm(note="7")) == Keys("a@acme.example", "acme", "us", "7")
    assert keys_of(ion()).noted_ion_id is None
