"""What both sides had agreed on, found again from fingerprints (S15)."""

from __future__ import annotations

import pytest

from syncd.core.decide import Rule, decide
from syncd.core.link import How, Link, LinkState, Spelling
from syncd.core.policy import Dialect, FirstLink, Policy, Tie
from syncd.core.record import Observation, Position, Record, new_record, observe
from syncd.core.restore import LOST, restored_base, restored_spellings
from syncd.core.values import CrmId, Field, IonId, Millis, Side, Value
from syncd.mapping import load_mapping


def print_of(value: Value) -> frozenset[str]:
    return frozenset({f"print of {value}"})


def told(value: Value) -> str:
    [only] = print_of(value)
    return only


def record(side: Side, *companies: Value) -> Record:
    """Held one after the other, the newest last."""
    seen = [
        Observation(side, "1", {Field.COMPANY: value}, Position(None, Millis(10 * number + 10), number), True)
        for number, value in enumerate(companies)
    ]
    return observe(new_record(side, "1"), seen)


CASES = [
    pytest.param(record(Side.CRM, "A"), record(Side.ION, "A"), "A", "A", id="nobody moved"),
    pytest.param(record(Side.CRM, "B"), record(Side.ION, "A"), "A", "A", id="the CRM moved"),
    pytest.param(record(Side.CRM, "A"), record(Side.ION, "B"), "A", "A", id="ION moved"),
    pytest.param(record(Side.CRM, "A", "B"), record(Side.ION, "C"), "A", "A", id="both moved, an event remembers"),
    pytest.param(record(Side.CRM, "B"), record(Side.ION, "C"), "A", LOST, id="both moved, nobody remembers"),
    pytest.param(record(Side.CRM, "B"), record(Side.ION, "C"), None, None, id="both moved, from blank"),
    pytest.param(None, record(Side.ION, "A"), "A", "A", id="no event"),
    pytest.param(None, None, "A", LOST, id="nothing at all"),
]


@pytest.mark.parametrize(("crm", "ion", "agreed", "base"), CASES)
def test_the_base_is_the_value_whose_fingerprint_it_is(
    crm: Record | None, ion: Record | None, agreed: Value, base: Value
) -> None:
    assert restored_base({Field.COMPANY: told(agreed)}, crm, ion, print_of) == {Field.COMPANY: base}


def test_a_lost_base_still_says_that_both_have_moved() -> None:
    crm, ion = record(Side.CRM, "B"), record(Side.ION, "X", "Y", "C")
    base = restored_base({Field.COMPANY: told("A")}, crm, ion, print_of)
    link = Link(CrmId("1"), IonId("1"), LinkState.LINKED, How.PERSON, Millis(1), base)
    policy: Policy = load_mapping(None).policy(Dialect.LIVE, Tie.CRM, FirstLink.CRM, 0)
    [outcome] = [o for o in decide(link, crm, ion, policy).outcomes if o.field is Field.COMPANY]
    assert (outcome.rule, outcome.winner) == (Rule.LATER_EDIT, Side.ION)


def test_a_spelling_that_is_still_shown_is_known_again() -> None:
    name = Field.COMPANY
    crm, ion = record(Side.CRM, "Acme"), record(Side.ION, "ACME")
    found = restored_spellings({(Side.ION, name): told("ACME")}, {name: "Acme"}, crm, ion, print_of)
    assert found == {(Side.ION, name): Spelling("Acme", "ACME")}


@pytest.mark.parametrize(
    ("side", "base", "ion"),
    [
        pytest.param(Side.ION, {Field.COMPANY: "Acme"}, record(Side.ION, "Else"), id="edited since"),
        pytest.param(Side.ION, {}, record(Side.ION, "ACME"), id="never agreed on"),
        pytest.param(Side.CRM, {Field.COMPANY: "Acme"}, record(Side.ION, "ACME"), id="the other side's"),
        pytest.param(Side.ION, {Field.COMPANY: "Acme"}, None, id="not there"),
    ],
)
def test_a_spelling_that_is_not_shown_is_dropped(side: Side, base: dict[Field, Value], ion: Record | None) -> None:
    assert restored_spellings({(side, Field.COMPANY): told("ACME")}, base, None, ion, print_of) == {}
