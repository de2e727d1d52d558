"""Which ION customers may be what a create made whose answer was lost (S7)."""

from __future__ import annotations

import pytest

from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.lost import ION_CLOCK_MS, appeared_after, made_between, may_be_of, was_born_otherwise
from syncd.core.record import Reading, Record, new_record, observe_reading
from syncd.core.values import Field, Millis, Side, Subject, Value

AT = Millis(1_000_500)
SENT: dict[Field, Value] = {Field.COMPANY: "Acme", Field.EMAIL: "ann@acme.example"}
CREATE = Intent("i", Subject("crm:1"), Side.ION, Kind.CREATE, SENT, {}, IntentState.UNKNOWN, AT, AT)


def seen(at: int, modified: int | None = None, created: int | None = None, **values: Value) -> Record:
    """First seen by an answer that ended then; ``modified`` and ``created`` are ION's word."""
    return seen_again(new_record(Side.ION, "7"), at, modified, created, **values)


def seen_again(record: Record, at: int, modified: int | None, created: int | None = None, **values: Value) -> Record:
    whole = {**SENT, **{Field(name): value for name, value in values.items()}}
    times = (Millis(at - 50), Millis(at), None if modified is None else Millis(modified))
    return observe_reading(record, Reading("7", whole, *times, {}, None if created is None else Millis(created)))


WHEN = [
    pytest.param(seen(AT - 1), False, id="seen before, no modification time"),
    pytest.param(seen(AT), True, id="first seen after"),
    pytest.param(seen(AT - 1, modified=1_000_000), False, id="seen before, modified in the same second"),
    pytest.param(seen(AT + 700, modified=1_001_000), True, id="seen after, modified after"),
    pytest.param(seen(AT + 700, modified=AT - 8_500), True, id="seen after, by a slow clock made before"),
    pytest.param(
        seen_again(seen(AT - 700, modified=999_000), AT + 900, 1_001_000, company="Other"),
        False,
        id="seen before, edited after",
    ),
]


@pytest.mark.parametrize(("record", "is_after"), WHEN)
def test_who_was_seen_before_by_our_own_clock_is_no_newcomer(record: Record, is_after: bool) -> None:
    assert appeared_after(record, AT) is is_after
    assert may_be_of(record, CREATE) is is_after


BIRTHS = [
    pytest.param(seen(AT + 900, 1_001_000, 1_001_000), False, id="seen as made, with what was sent"),
    pytest.param(seen(AT + 900, 1_001_000, 1_001_000, company="Other"), True, id="seen as made, another name"),
    pytest.param(seen(AT + 900, 1_001_000, 1_001_000, email="b@b.example"), True, id="seen as made, another address"),
    pytest.param(seen(AT + 9_000, 1_009_000, 1_001_000, company="Other"), False, id="renamed before it was seen"),
    pytest.param(seen(AT + 900, None, 1_001_000, company="Other"), False, id="a dialect without modification time"),
    pytest.param(seen(AT + 900, 1_001_000, company="Other"), False, id="ION does not say when it made it"),
]


@pytest.mark.parametrize(("record", "is_otherwise"), BIRTHS)
def test_who_was_seen_to_be_born_as_somebody_else(record: Record, is_otherwise: bool) -> None:
    assert was_born_otherwise(record, CREATE) is is_otherwise
    assert may_be_of(record, CREATE) is not is_otherwise


def test_ions_clock_may_be_wrong_by_seconds() -> None:
    start, end = made_between(CREATE)
    assert start == AT - ION_CLOCK_MS
    assert end > AT + ION_CLOCK_MS
