"""The smaller rules of the core: listings (S10), intents (S1), receipts (S5, S6), policies, values."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from syncd.core import errors
from syncd.core.batches import batched
from syncd.core.instants import ago, instant, when
from syncd.core.intent import LIFE, Intent, IntentState, Kind, intent_id
from syncd.core.link import How, Link, LinkState, Spelling
from syncd.core.listing import Listing, SweepOutcome, judge
from syncd.core.policy import ION_ACCESS, ION_REQUIRES, Access, Dialect, Direction, FieldRule, Policy, plain_key
from syncd.core.receipt import agree_on, arrived, receive, region_of, side_label
from syncd.core.values import (
    Address,
    CrmId,
    Field,
    IonId,
    Millis,
    Side,
    Subject,
    field_named,
    split_subject,
    subject_of,
    value_from_json,
    value_to_json,
    values_from_json,
    values_to_json,
)
from syncd.core.work import DeadLetter, Tokens, is_of


def listing(customers: int = 100, read: bool = True, repeated: bool = False, announced: int | None = None) -> Listing:
    return Listing(customers, read, repeated, announced)


LISTINGS = [
    pytest.param(listing(), [], SweepOutcome.COMPLETE, id="the first one"),
    pytest.param(listing(), [100, 101, 99], SweepOutcome.COMPLETE, id="as large as the others"),
    pytest.param(listing(91), [100], SweepOutcome.COMPLETE, id="a little smaller"),
    pytest.param(listing(89), [100, 100, 100], SweepOutcome.SHRUNK, id="more than a tenth smaller"),
    pytest.param(listing(0), [100, 100, 100], SweepOutcome.SHRUNK, id="an account that lists empty"),
    pytest.param(listing(50), [50, 50, 50, 100], SweepOutcome.COMPLETE, id="small for the fourth time"),
    pytest.param(listing(200), [100], SweepOutcome.COMPLETE, id="growth proves no less"),
    pytest.param(listing(read=False), [], SweepOutcome.FAILED, id="a page could not be read"),
    pytest.param(listing(repeated=True), [], SweepOutcome.REPEATED, id="a page came twice"),
    pytest.param(listing(announced=101), [], SweepOutcome.MISCOUNTED, id="fewer than announced"),
    pytest.param(listing(announced=100), [], SweepOutcome.COMPLETE, id="as many as announced"),
]


@pytest.mark.parametrize(("seen", "recent", "outcome"), LISTINGS)
def test_when_a_sweep_proves_anything(seen: Listing, recent: list[int], outcome: SweepOutcome) -> None:
    assert judge(seen, recent) is outcome


def intent(**changes: object) -> Intent:
    whole = {
        "id": "i",
        "subject": Subject("crm:1"),
        "side": Side.ION,
        "kind": Kind.UPDATE,
        "set": {Field.COMPANY: "New", Field.PHONE: "1"},
        "expect": {Field.COMPANY: "Old", Field.PHONE: None},
        "state": IntentState.SENT,
        "at": Millis(1),
        **changes,
    }
    return Intent(**whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(("before", "after"), list(product(IntentState, IntentState)))
def test_an_intent_moves_only_along_its_table(before: IntentState, after: IntentState) -> None:
    if (before, after) in LIFE:
        assert intent(state=before).moved_to(after, Millis(9)).state is after
    else:
        with pytest.raises(ValueError, match="cannot become"):
            intent(state=before).moved_to(after, Millis(9))


def test_only_open_intents_move_by_themselves() -> None:
    by_a_person = {(IntentState.REJECTED, IntentState.DROPPED)}
    assert {before for before, _ in set(LIFE) - by_a_person} == {state for state in IntentState if state.is_open}


def test_a_command_sent_again_counts_its_attempts() -> None:
    assert intent().sent_again(Millis(5)).attempts == 1


def test_the_same_decision_has_the_same_id_and_another_has_another() -> None:
    def name(**changes: object) -> str:
        parts = {
            "subject": "crm:1",
            "side": Side.ION,
            "kind": Kind.UPDATE,
            "values": {Field.COMPANY: "x"},
            "expect": {},
        }
        return intent_id(**{**parts, **changes})  # type: ignore[arg-type]

    assert name() == name()
    others = [
        {"subject": "crm:2"},
        {"side": Side.CRM},
        {"values": {Field.COMPANY: "y"}},
        {"expect": {Field.PHONE: "1"}},
    ]
    assert len({name(), *(name(**other) for other in others), name(salt="later")}) == 6


LINK = Link(CrmId("1"), IonId("7"), LinkState.LINKED, How.PERSON, Millis(0), {Field.COMPANY: "Old"})
POLICY = Policy({name: FieldRule(name) for name in (Field.COMPANY, Field.PHONE)})


def test_a_receipt_moves_the_base_of_what_was_taken() -> None:
    receipt = receive(LINK, intent(), {Field.COMPANY: "New"}, POLICY, None)
    assert receipt.link.base == {Field.COMPANY: "New", Field.PHONE: "1"}
    assert set(receipt.confirmed) == {Field.COMPANY, Field.PHONE}


def test_another_spelling_in_the_answer_is_remembered_as_equal() -> None:
    receipt = receive(LINK, intent(), {Field.COMPANY: "NEW"}, POLICY, None)
    assert receipt.link.spellings == {(Side.ION, Field.COMPANY): Spelling("New", "NEW")}
    assert receipt.link.spelt(Side.ION, Field.COMPANY, "NEW") == "New"
    assert receipt.link.spelt(Side.ION, Field.COMPANY, "Other") == "Other"
    again = receive(receipt.link, intent(), {Field.COMPANY: "New"}, POLICY, None)
    assert again.link.spellings == {}


def test_a_field_left_as_it_was_is_not_a_spelling() -> None:
    receipt = receive(LINK, intent(), {Field.COMPANY: "Old"}, POLICY, None)
    assert receipt.ignored == (Field.COMPANY,)
    assert receipt.link.base[Field.COMPANY] == "Old"


def test_what_a_side_holds_by_now_has_arrived() -> None:
    assert arrived(intent(), {Field.COMPANY: "New"}, POLICY, None) == (Field.COMPANY,)
    assert arrived(intent(), {Field.COMPANY: "Old", Field.PHONE: "1"}, POLICY, None) == (Field.PHONE,)


def test_agreeing_on_nothing_changes_nothing() -> None:
    assert agree_on(LINK, {}) is LINK
    assert agree_on(LINK, {Field.PHONE: "2"}).base[Field.PHONE] == "2"


def test_the_region_of_phones_is_the_customers_country() -> None:
    assert region_of({Field.COUNTRY: "DE"}, {}) == "DE"
    assert region_of({Field.COUNTRY: "DE"}, {Field.COUNTRY: "US"}) == "US"
    assert region_of({}, {}) is None
    assert side_label(Side.ION) == "ION"


def test_the_table_of_fields_is_the_contracts() -> None:
    seed, live = ION_ACCESS[Dialect.SEED], ION_ACCESS[Dialect.LIVE]
    assert {name for name in Field if name not in seed} == {Field.CONTACT, Field.TITLE, Field.LANGUAGE}
    assert seed[Field.PHONE] is seed[Field.ADDRESS] is Access.WRITE
    assert seed[Field.STATUS] is live[Field.STATUS] is Access.READ
    assert all(live[name] is Access.BOTH for name in Field if name is not Field.STATUS)
    assert set(ION_REQUIRES[Dialect.SEED]) == {Field.COMPANY, Field.EMAIL, Field.COUNTRY}


def test_directions_let_writes_through_or_not() -> None:
    assert [Direction.BOTH.lets_write_to(side) for side in Side] == [True, True]
    assert Direction.CRM_TO_ION.lets_write_to(Side.ION)
    assert not Direction.CRM_TO_ION.lets_write_to(Side.CRM)
    assert not Direction.OFF.lets_write_to(Side.CRM)


def test_a_policy_knows_what_it_writes_and_reads() -> None:
    rules = {
        Field.COMPANY: FieldRule(Field.COMPANY),
        Field.PHONE: FieldRule(Field.PHONE, ion=Access.WRITE),
        Field.STATUS: FieldRule(Field.STATUS, ion=Access.READ),
    }
    policy = Policy(rules)
    assert policy.writes_to_ion() == (Field.COMPANY, Field.PHONE)
    assert policy.hidden_in_ion() == (Field.PHONE,)
    assert [policy.reads_from_ion(name) for name in (*rules, Field.TITLE)] == [True, False, True, False]
    assert plain_key("x") == "x"


def test_a_default_stands_in_where_the_crm_has_nothing() -> None:
    policy = Policy({}, defaults={Field.LANGUAGE: "EN"})
    assert policy.sent_value(None, Field.LANGUAGE) == "EN"
    assert policy.sent_value("FR", Field.LANGUAGE) == "FR"
    assert policy.sent_value(None, Field.TITLE) is None


def test_subjects_name_a_side_and_an_id() -> None:
    assert split_subject(subject_of(Side.CRM, "a:b")) == (Side.CRM, "a:b")
    assert Side.CRM.other is Side.ION
    assert Side.ION.other is Side.CRM


def test_values_go_through_json_unharmed() -> None:
    values = {Field.COMPANY: "x", Field.PHONE: None, Field.ADDRESS: Address("1 Main", "", "Tampa", "FL", "33602")}
    assert values_from_json(values_to_json(values)) == values
    assert value_from_json({"street": None, "city": "Tampa"}) == Address(city="Tampa")
    assert value_to_json(None) is None
    assert Address().is_blank


def test_errors_say_what_to_do_by_default() -> None:
    assert "syncd token set" in errors.Unauthorised().sentence
    assert errors.Throttled(wait_ms=5).wait_ms == 5
    assert errors.DecideAgain("moved", answer="now").answer == "now"
    assert errors.Rejected("no", code="x", taken_email=True).taken_email


def test_tokens_never_show_themselves() -> None:
    tokens = Tokens("secret-a", "secret-r", Millis(1), Millis(2), Millis(3))
    assert "secret" not in repr(tokens)


def test_writes_to_one_customer_keep_their_distance() -> None:
    assert replace(LINK, written_at=Millis(5_000)).writable_at == 15_000


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "never"),
        (0, "0 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7_199, "120 min"),
        (7_200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_a_span_of_time_is_told_in_one_unit(seconds: float | None, told: str) -> None:
    assert ago(seconds) == told


def test_an_instant_is_written_and_read_as_rfc_3339() -> None:
    assert when(None) == ""
    assert when(1_790_000_000_123) == "2026-09-21T14:13:20.123Z"
    assert instant("2026-09-21T14:13:20.123Z") == instant("2026-09-21T14:13:20.123") == 1_790_000_000_123
    assert instant("2026-09-21T16:13:20+02:00") == 1_790_000_000_000
    for wrong in ("yesterday", ""):
        with pytest.raises(errors.UserError, match="is no time"):
            instant(wrong)


def test_a_field_is_known_by_its_name() -> None:
    assert field_named("company") is Field.COMPANY
    with pytest.raises(errors.UserError, match="there is no field shoe-size: it is one of company"):
        field_named("shoe-size")


LETTERS = [
    pytest.param(b"C1", None, True, id="the key is the id"),
    pytest.param(b'{"id": 17}', b"rubbish", False, id="the key holds another id"),
    pytest.param(b'{"id": "C1"}', b"{", True, id="the key holds the id"),
    pytest.param(None, b'{"type": "changed", "id": "C1"}', True, id="a plain event"),
    pytest.param(None, b'{"specversion": "1.0", "subject": "C1"}', True, id="a CloudEvent"),
    pytest.param(None, b'{"payload": {"op": "u", "after": {"id": "C1"}}}', True, id="a Debezium row in an envelope"),
    pytest.param(None, b'{"op": "d", "before": {"id": "C1"}, "after": null}', True, id="a bare Debezium row"),
    pytest.param(None, b'{"id": "C2", "customer": {"phone": "C1"}}', False, id="another's, who has that value"),
    pytest.param(None, b'["C1"]', False, id="no object"),
    pytest.param(None, None, False, id="nothing at all"),
]


@pytest.mark.parametrize(("key", "value", "is_mine"), LETTERS)
def test_whose_dead_letter_it_is(key: bytes | None, value: bytes | None, is_mine: bool) -> None:
    letter = DeadLetter("crm.customers", 0, 1, "undecodable", "", Millis(0), key, value)
    assert is_of(letter, "C1") is is_mine


SLICES = [
    pytest.param("", 2, [], id="of nothing there is none"),
    pytest.param("abcd", 2, ["ab", "cd"], id="the last is full"),
    pytest.param("abc", 2, ["ab", "c"], id="the last is what is left"),
    pytest.param("ab", 5, ["ab"], id="fewer than one batch"),
]


@pytest.mark.parametrize(("items", "size", "slices"), SLICES)
def test_many_things_some_at_a_time(items: str, size: int, slices: list[str]) -> None:
    assert list(batched(items, size)) == slices
