"""S2: registers, their merge and their stamps."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.record import (
    BEGINNING,
    DELETED,
    PRESENCE,
    Observation,
    Position,
    Reading,
    Record,
    Register,
    Sighting,
    Stamp,
    is_superseded,
    join,
    new_record,
    observe,
    observe_reading,
    observe_write,
    settle,
    settle_fields,
    sighted,
    stamp_of,
)
from syncd.core.values import Field, Millis, Side

COMPANY = Field.COMPANY


def edit(
    value: str | None, at: int, *, version: int | None = None, offset: int = 0, is_edit: bool = True
) -> Observation:
    return Observation(Side.CRM, "C1", {COMPANY: value}, Position(version, Millis(at), offset), is_edit)


def crm(*observations: Observation) -> Record:
    return observe(new_record(Side.CRM, "C1"), observations)


def reading(value: str, asked: int, answered: int, modified: int | None = None) -> Reading:
    moment = None if modified is None else Millis(modified)
    return Reading("7", {COMPANY: value}, Millis(asked), Millis(answered), moment, {})


def ion(*readings: Reading, listed_at: int = 0) -> Record:
    record = new_record(Side.ION, "7")
    for one in readings:
        record = observe_reading(record, one, Millis(listed_at))
    return record


sightings = st.builds(
    lambda value, at, until, is_exact: sighted(
        value, Millis(at + until), is_exact, Position(None, Millis(at), 0), Millis(at + until)
    ),
    st.sampled_from(["a", "b", "c", None]),
    st.integers(0, 50),
    st.integers(0, 5),
    st.booleans(),
)


def _joined(many: list[Sighting]) -> Register:
    register: Register = ()
    for sighting in many:
        register = join(register, (sighting,))
    return register


registers = st.lists(sightings, max_size=6).map(_joined)


@given(registers, registers)
def test_merging_is_commutative(a: Register, b: Register) -> None:
    assert join(a, b) == join(b, a)


@given(registers, registers, registers)
def test_merging_is_associative(a: Register, b: Register, c: Register) -> None:
    assert join(join(a, b), c) == join(a, join(b, c))


@given(registers)
def test_merging_is_idempotent(a: Register) -> None:
    assert join(a, a) == a


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 9)), max_size=6), st.randoms())
def test_crm_events_in_any_order_and_repeated_give_the_same_record(history, random) -> None:
    events = [edit(value, at, offset=offset) for offset, (value, at) in enumerate(history)]
    shuffled = events + random.choices(events, k=3) if events else []
    random.shuffle(shuffled)
    assert crm(*shuffled).registers == crm(*events).registers


def _observations(version: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[Observation]]:
    told = st.dictionaries(st.sampled_from(["company", "title", "phone"]), st.sampled_from(["a", "b", None]))
    place = st.builds(Position, version, st.integers(0, 9), st.integers(0, 9))
    one = st.builds(Observation, st.just(Side.CRM), st.just("C1"), told, place, st.booleans())
    return st.lists(one, max_size=9)


@given(_observations(st.none()) | _observations(st.integers(1, 4)))
def test_what_is_folded_in_one_go_is_what_each_observation_adds(observations: list[Observation]) -> None:
    one_by_one: dict[str, Register] = {}
    for seen in observations:
        at = seen.position.at
        for name, value in seen.values.items():
            sighting = sighted(value, at, seen.is_edit, seen.position, at)
            one_by_one[name] = join(one_by_one.get(name, ()), (sighting,))
    assert crm(*observations).registers == one_by_one


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 20)), min_size=1, max_size=12))
def test_the_stamp_of_polled_changes_holds_the_true_moment(history) -> None:
    """Somebody sets a value at a time of their own; we read every 10, each reading takes 2."""
    changes, at = [], 100
    for value, gap in history:
        at += gap
        changes.append((at, value))
    record, truth = new_record(Side.ION, "7"), {}
    for asked in range(90, at + 30, 10):
        held = [(moment, value) for moment, value in changes if moment <= asked + 1]
        if not held:
            continue
        runs = [held[0]]
        for moment, value in held[1:]:
            if value != runs[-1][1]:
                runs.append((moment, value))
        truth[COMPANY] = runs[-1][0]
        before = record
        record = observe_reading(record, reading(held[-1][1], asked, asked + 2), Millis(asked - 10))
        if record is not before:
            stamp = record.stamp(COMPANY)
            assert stamp.earliest <= truth[COMPANY] <= stamp.latest


def test_an_edit_is_exact() -> None:
    assert crm(edit("A", 1000)).stamp(COMPANY) == Stamp(Millis(1000), Millis(1000))


def test_a_snapshot_is_only_an_upper_bound() -> None:
    assert crm(edit("A", 1000, is_edit=False)).stamp(COMPANY) == Stamp(BEGINNING, Millis(1000))


def test_repeating_a_value_does_not_make_it_newer() -> None:
    """A CRM that sends whole rows repeats every field with each edit of another one."""
    assert crm(edit("A", 1000), edit("A", 5000)).stamp(COMPANY) == Stamp(Millis(1000), Millis(1000))


def test_a_value_that_comes_back_is_dated_after_the_one_between() -> None:
    stamp = crm(edit("A", 1000), edit("B", 2000), edit("A", 3000)).stamp(COMPANY)
    assert stamp == Stamp(Millis(2000), Millis(3000))


def test_version_orders_before_time() -> None:
    assert crm(edit("new", 1000, version=6), edit("old", 9000, version=5)).value(COMPANY) == "new"


def test_time_orders_where_one_event_has_no_version() -> None:
    assert crm(edit("versioned", 1000, version=6), edit("later", 2000)).value(COMPANY) == "later"


def test_the_offset_orders_events_of_the_same_moment() -> None:
    assert crm(edit("second", 1000, offset=2), edit("first", 1000, offset=1)).value(COMPANY) == "second"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_tie_in_everything_is_settled_the_same_way_in_any_order(order: tuple[int, ...]) -> None:
    events = [edit(value, 1000) for value in ("x", "y", "z")]
    assert crm(*(events[index] for index in order)).value(COMPANY) == "z"


def test_an_old_event_replayed_changes_nothing_that_newer_ones_said() -> None:
    record = crm(edit("A", 1000), edit("B", 2000))
    assert observe(record, [edit("A", 1000)]) is record


def test_deletion_is_a_register_like_any_other() -> None:
    gone = Observation(Side.CRM, "C1", {PRESENCE: DELETED}, Position(None, Millis(3000), 0), True)
    assert crm(edit("A", 1000), gone).is_deleted


def test_a_reading_dates_a_change_between_the_last_reading_of_the_old_value_and_its_own_end() -> None:
    record = ion(reading("A", 100, 110), reading("B", 200, 215))
    assert record.stamp(COMPANY) == Stamp(Millis(100), Millis(215))


def test_a_complete_sweep_since_then_is_a_reading_too() -> None:
    record = ion(reading("A", 100, 110), reading("B", 900, 915), listed_at=800)
    assert record.stamp(COMPANY) == Stamp(Millis(800), Millis(915))


def test_update_time_inside_the_interval_is_the_moment() -> None:
    record = ion(reading("A", 10_000, 10_100, 5_000), reading("B", 70_000, 70_100, 42_000))
    assert record.stamp(COMPANY) == Stamp(Millis(42_000), Millis(42_000))


def test_update_time_outside_the_interval_is_no_evidence() -> None:
    record = ion(reading("A", 10_000, 10_100, 5_000), reading("B", 70_000, 70_100, 99_000))
    assert record.stamp(COMPANY) == Stamp(Millis(10_000), Millis(70_100))


def test_update_time_that_our_own_write_moved_is_no_evidence() -> None:
    record = ion(reading("A", 10_000, 10_100, 5_000))
    record = observe_write(
        record, {Field.PHONE: "1"}, Reading("7", {}, Millis(20_000), Millis(20_100), Millis(20_000), {})
    )
    record = observe_reading(record, reading("B", 70_000, 70_100, 20_000))
    assert record.stamp(COMPANY) == Stamp(Millis(10_000), Millis(70_100))


def test_a_reading_asked_before_our_write_ended_says_nothing_against_it() -> None:
    record = observe_write(
        ion(reading("A", 100, 110)), {COMPANY: "B"}, Reading("7", {}, Millis(200), Millis(230), None, {})
    )
    assert observe_reading(record, reading("A", 229, 260)) is record
    assert observe_reading(record, reading("C", 230, 260)).value(COMPANY) == "C"


def test_an_answer_older_than_what_we_know_is_stale() -> None:
    record = ion(reading("B", 10_000, 10_100, 9_000))
    assert observe_reading(record, reading("A", 20_000, 20_100, 8_000)) is record


def test_the_same_reading_again_gives_the_very_same_record() -> None:
    record = ion(reading("A", 100, 110))
    assert observe_reading(record, reading("A", 200, 210)) is record


def test_a_customer_listed_again_is_missing_no_more() -> None:
    from dataclasses import replace

    record = replace(ion(reading("A", 100, 110)), missing_sweeps=2)
    again = observe_reading(record, reading("A", 900, 910), Millis(800))
    assert again.missing_sweeps == 0
    changed = observe_reading(record, reading("B", 900, 910), Millis(800))
    assert changed.stamp(COMPANY) == Stamp(Millis(100), Millis(910)), "a sweep that missed it did not see it"


def test_a_receipt_takes_the_spelling_of_the_answer() -> None:
    answer = Reading("7", {COMPANY: "ACME"}, Millis(200), Millis(230), None, {})
    record = observe_write(ion(reading("A", 100, 110)), {COMPANY: "Acme"}, answer)
    assert record.value(COMPANY) == "ACME"
    assert record.written_until == 230


def test_a_receipt_of_what_was_held_already_keeps_its_stamp() -> None:
    before = ion(reading("A", 100, 110))
    answer = Reading("7", {}, Millis(200), Millis(230), None, {})
    assert observe_write(before, {COMPANY: "A"}, answer).stamp(COMPANY) == before.stamp(COMPANY)


def test_settling_forgets_what_was_before() -> None:
    record = crm(edit("A", 1000), edit("B", 2000))
    assert len(settle(record.registers[COMPANY])) == 1
    assert settle_fields(record, [COMPANY, Field.PHONE]).registers[COMPANY][0].value == "B"
    assert settle_fields(crm(edit("A", 1)), [COMPANY]).value(COMPANY) == "A"


def test_a_version_that_runs_against_the_clock_still_gives_an_ordered_stamp() -> None:
    stamp = stamp_of(crm(edit("A", 9000, version=1), edit("B", 1000, version=2)).registers[COMPANY])
    assert stamp.earliest <= stamp.latest


def test_what_is_not_known_has_no_value() -> None:
    record = crm(edit("A", 1))
    assert not record.knows(Field.PHONE)
    assert record.value(Field.PHONE) is None
    assert record.noted_ion_id is None
    assert record.values() == {COMPANY: "A"}


def test_a_reading_is_superseded_by_another_value_seen_since() -> None:
    record = ion(reading("new", 100, 110))
    assert is_superseded(record, reading("old", 99, 120))
    assert not is_superseded(record, reading("new", 99, 120)), "the same value"
    assert not is_superseded(record, reading("newer still", 100, 120)), "asked for no earlier"
    assert not is_superseded(new_record(Side.ION, "7"), reading("old", 99, 120))


def test_two_records_hold_the_same_whenever_their_newest_values_do() -> None:
    told = observe(new_record(Side.CRM, "C1"), [edit("New", 20)])
    older_told = observe(told, [edit("Old", 10)])
    assert older_told != told
    assert older_told.holds_as(told)
    assert not observe(told, [edit("Newer", 30)]).holds_as(told)
    assert not told.holds_as(new_record(Side.CRM, "C1"))
