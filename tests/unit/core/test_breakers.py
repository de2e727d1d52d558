"""S6, S14: fields that flap are frozen, a side that is away is probed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncd.core.circuit import FIRST_WAIT_MS, LONGEST_WAIT_MS, OPENS_AFTER, PROBE_MS, Circuit
from syncd.core.flap import MAX_WRITES, flapping
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.values import Field, Millis, Side, Subject

NOW = Millis(1_000_000)


def write(number: int, field: Field = Field.TITLE, state: IntentState = IntentState.CONFIRMED) -> Intent:
    side = Side.ION if number % 2 else Side.CRM
    return Intent(f"i{number}", Subject("crm:1"), side, Kind.UPDATE, {field: str(number)}, {}, state, NOW)


def test_the_write_after_the_fifth_freezes_the_field_whichever_side_it_goes_to() -> None:
    writes = [write(number) for number in range(MAX_WRITES)]
    assert flapping(writes, [Field.TITLE, Field.EMAIL]) == {Field.TITLE}
    assert flapping(writes[1:], [Field.TITLE]) == frozenset()


@pytest.mark.parametrize("state", [IntentState.PREPARED, IntentState.DROPPED, IntentState.REJECTED])
def test_a_write_that_was_not_made_counts_for_nothing(state: IntentState) -> None:
    assert flapping([write(number, state=state) for number in range(9)], [Field.TITLE]) == frozenset()


def test_what_a_person_put_back_is_no_automatic_write() -> None:
    undone = [replace(write(number), kind=Kind.UNDO) for number in range(9)]
    assert flapping(undone, [Field.TITLE]) == frozenset()


def failed(times: int) -> Circuit:
    circuit = Circuit()
    for _ in range(times):
        circuit = circuit.failed(NOW)
    return circuit


def test_a_circuit_opens_at_the_third_failure_in_a_row() -> None:
    assert not failed(OPENS_AFTER - 1).is_open
    assert failed(OPENS_AFTER - 1).wait_ms(NOW) == 0
    assert failed(OPENS_AFTER).is_open
    assert failed(OPENS_AFTER).wait_ms(NOW) == FIRST_WAIT_MS


def test_an_open_circuit_waits_twice_as_long_each_time_up_to_a_bound() -> None:
    assert failed(OPENS_AFTER + 1).wait_ms(NOW) == 2 * FIRST_WAIT_MS
    assert failed(OPENS_AFTER + 50).wait_ms(NOW) == LONGEST_WAIT_MS
    assert failed(OPENS_AFTER).wait_ms(Millis(NOW + FIRST_WAIT_MS)) == 0


def test_one_probe_goes_out_and_nobody_else() -> None:
    probing = failed(OPENS_AFTER).probing(Millis(NOW + FIRST_WAIT_MS))
    assert probing.wait_ms(Millis(NOW + FIRST_WAIT_MS)) == PROBE_MS
    assert Circuit().probing(NOW) == Circuit()
