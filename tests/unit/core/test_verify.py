"""Comparing both sides by other code than the merge's (S16)."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.core.link import How, Link, LinkState, Spelling
from syncd.core.policy import Access, Direction, FieldRule
from syncd.core.record import PRESENCE, Observation, Position, new_record, observe
from syncd.core.values import Address, CrmId, Field, IonId, Millis, Side, Value
from syncd.core.verify import Difference, Divergence, Latest, Standing, differences, unproven

LINK = Link(CrmId("C1"), IonId("7"), LinkState.LINKED, How.PERSON, Millis(3), {Field.COMPANY: "Agreed"})
SPELT = {(Side.ION, Field.COMPANY): Spelling("Acme, Ltd.", "ACME LTD")}
HERE, THERE = Address("1 Main St", "", "Tampa", "FL", "33601"), Address("2 Side St", "", "Tampa", "FL", "33601")
BOTH = FieldRule(Field.COMPANY)


def no_case(value: Value, _: str | None) -> object:
    return value.casefold() if isinstance(value, str) else value


def only(direction: Direction, access: Access = Access.BOTH) -> FieldRule:
    return FieldRule(Field.COMPANY, direction, ion=access)


COMPARED: list[Any] = [
    pytest.param(BOTH, "Acme", "Acme", None, id="the same"),
    pytest.param(BOTH, " Acme  Ltd", "Acme Ltd", None, id="stray blanks"),
    pytest.param(BOTH, "Ａcme", "Acme", None, id="another encoding of the same letters"),
    pytest.param(BOTH, None, "", None, id="blank is blank"),
    pytest.param(BOTH, "Acme", "Other", Standing.UNEXPLAINED, id="different"),
    pytest.param(BOTH, "Acme", None, Standing.UNEXPLAINED, id="missing on one side"),
    pytest.param(BOTH, "ACME", "acme", Standing.UNEXPLAINED, id="case counts"),
    pytest.param(FieldRule(Field.COMPANY, key=no_case), "ACME", "acme", None, id="unless the mapping says otherwise"),
    pytest.param(only(Direction.OFF), "Acme", "Other", None, id="a field that is off"),
    pytest.param(only(Direction.BOTH, Access.WRITE), "Acme", "Other", None, id="a field that ION never shows"),
    pytest.param(
        only(Direction.BOTH, Access.READ), "Moved", "Agreed", Standing.KEPT, id="ION can't be written: kept"
    ),
    pytest.param(only(Direction.ION_TO_CRM), "Agreed", "Moved", Standing.UNEXPLAINED, id="the source has moved"),
    pytest.param(only(Direction.CRM_TO_ION), "Agreed", "Moved", Standing.KEPT, id="the other side has moved"),
    pytest.param(only(Direction.CRM_TO_ION), "Moved", "Agreed", Standing.UNEXPLAINED, id="what should flow did not"),
    pytest.param(
        only(Direction.CRM_TO_ION, Access.READ), "Acme", "Other", Standing.KEPT, id="neither may be written"
    ),
]


@pytest.mark.parametrize(("rule", "crm", "ion", "standing"), COMPARED)
def test_a_field_is_compared(rule: FieldRule, crm: Value, ion: Value, standing: Standing | None) -> None:
    found = differences(LINK, {Field.COMPANY: crm}, {Field.COMPANY: ion}, [rule])
    assert [difference.standing for difference in found] == ([] if standing is None else [standing])


def test_what_the_crm_never_mentioned_is_not_compared() -> None:
    assert differences(LINK, {}, {Field.COMPANY: "Acme"}, [BOTH]) == []


def test_a_spelling_of_ions_own_counts_as_what_was_written() -> None:
    link = Link(CrmId("C1"), IonId("7"), LinkState.LINKED, How.PERSON, Millis(0), {}, SPELT)
    assert differences(link, {Field.COMPANY: "Acme, Ltd."}, {Field.COMPANY: "ACME LTD"}, [BOTH]) == []
    assert differences(link, {Field.COMPANY: "Acme, Ltd."}, {Field.COMPANY: "ACME LTD."}, [BOTH]) != []


def test_an_address_is_compared_part_by_part_and_never_agreed_on_is_no_excuse() -> None:
    rule = FieldRule(Field.ADDRESS, Direction.CRM_TO_ION)
    [found] = differences(LINK, {Field.ADDRESS: HERE}, {Field.ADDRESS: THERE, Field.COUNTRY: "US"}, [rule])
    assert (found.crm, found.ion, found.standing) == (HERE, THERE, Standing.KEPT)
    assert differences(LINK, {Field.ADDRESS: HERE}, {Field.ADDRESS: HERE}, [rule]) == []


def seen(value: Value, position: Position, crm_id: str = "C1") -> Observation:
    return Observation(Side.CRM, crm_id, {Field.COMPANY: value, PRESENCE: "present"}, position, is_edit=True)


def test_the_last_event_counts_by_version_else_by_time_and_place() -> None:
    latest = Latest()
    old, new = Position(None, Millis(10), 5), Position(None, Millis(20), 6)
    latest.take([seen("new", new), seen("old", old)])
    record = observe(new_record(Side.CRM, "C1"), [seen("wrong", old)])
    assert latest.values(record) == {Field.COMPANY: "new"}
    versions = Latest()
    versions.take([seen("second", Position(2, Millis(10), 1)), seen("first", Position(1, Millis(99), 9))])
    assert versions.values(new_record(Side.CRM, "C1")) == {Field.COMPANY: "second"}
    newer = observe(new_record(Side.CRM, "C1"), [seen("since", Position(None, Millis(30), 7))])
    assert latest.values(newer) == {Field.COMPANY: "since"}, "the record is ahead of what was read"
    assert latest.values(new_record(Side.CRM, "C9")) == {}


def test_who_is_not_proven_equal_keeps_since_when() -> None:
    def differs(crm_id: str, standing: Standing, name: Field = Field.COMPANY) -> Difference:
        return Difference(crm_id, "7", name, "a", "b", standing)

    other = Link(CrmId("C4"), IonId("9"), LinkState.LINKED, How.PERSON, Millis(90), {})
    before = {"C2": Divergence("C2", "7", ("title",), Standing.UNDER_WAY, Millis(40), Millis(30))}
    found = [
        differs("C1", Standing.UNEXPLAINED),
        differs("C1", Standing.UNEXPLAINED, Field.PHONE),
        differs("C2", Standing.WAITING),
        differs("C3", Standing.KEPT),
    ]
    linked = {"C1": Millis(3), "C2": Millis(3), "C4": Millis(90)}
    assert unproven(found, [other], linked, before, Millis(60), Millis(100)) == [
        Divergence("C1", "7", ("company", "phone"), Standing.UNEXPLAINED, Millis(100), Millis(60)),
        Divergence("C2", "7", ("company",), Standing.WAITING, Millis(40), Millis(30)),
        Divergence("C4", "9", (), Standing.UNSEEN, Millis(100), Millis(90)),
    ]
