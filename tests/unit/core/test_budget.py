"""S11: never more than the limit in any 60 s, lanes with shares, one throttle for everyone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.budget import (
    AHEAD_MS,
    MARGIN_MS,
    SHARES,
    SPARE,
    WINDOW_MS,
    Granted,
    Lane,
    Ledger,
    Refused,
    end,
    give_back,
    new_ledger,
    take,
    throttle,
    wait_ms,
    with_limits,
)
from syncd.core.values import Millis

CALL_MS = 30_000


def granted(answer: Granted | Refused) -> Granted:
    assert isinstance(answer, Granted)
    return answer


def refused(answer: Granted | Refused) -> Refused:
    assert isinstance(answer, Refused)
    return answer


def full(limit: int, lane: Lane, now: int) -> Ledger:
    return granted(take(new_ledger(limit, CALL_MS), lane, limit, Millis(now), goes_first=True)).ledger


requests = st.lists(
    st.tuples(
        st.integers(0, 20_000),  # since the request before
        st.sampled_from(list(Lane)),
        st.integers(1, 2),  # slots
        st.integers(0, 29_000),  # how long the call takes
        st.floats(0, 1),  # when within the call it reaches the server
        st.sampled_from(["use", "use", "use", "give back", "throttle", "orphan"]),
        st.booleans(),  # whether it goes first
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=300)
@given(st.one_of(st.integers(1, 8), st.integers(15, 32)), requests)
def test_no_sliding_window_ever_holds_more_than_the_limit(limit: int, asked: list) -> None:
    """Calls reach the server at any moment between slot taken and call ended."""
    ledger, now, arrivals = new_ledger(limit, CALL_MS), 1_000_000, []
    ends: list[tuple[int, int]] = []
    for gap, lane, count, latency, share, fate, goes_first in asked:
        now += gap
        for at, slot in [entry for entry in ends if entry[0] <= now]:
            ledger = end(ledger, slot, Millis(at))
            ends.remove((at, slot))
        answer = take(ledger, lane, min(count, limit), Millis(now), goes_first=goes_first)
        ledger = answer.ledger
        if isinstance(answer, Refused):
            assert answer.wait_ms >= 1
            continue
        for slot in answer.slots:
            if fate == "give back":
                ledger = give_back(ledger, slot)
                continue
            arrivals.append(now + int(latency * share))
            if fate != "orphan":
                ends.append((now + latency, slot))
        if fate == "throttle":
            ledger = throttle(ledger, 5_000, Millis(now))
    arrivals.sort()
    for index, last in enumerate(arrivals):
        window = [at for at in arrivals[: index + 1] if at > last - WINDOW_MS]
        assert len(window) <= limit


def test_a_slot_is_free_a_minute_after_its_call_ended_not_after_it_began() -> None:
    ledger = end(full(1, Lane.WRITE, 0), 1, Millis(25_000))
    assert refused(take(ledger, Lane.WRITE, 1, Millis(60_100))).wait_ms == 25_000 + WINDOW_MS + MARGIN_MS - 60_100
    granted(take(ledger, Lane.WRITE, 1, Millis(25_000 + WINDOW_MS + MARGIN_MS)))


def test_a_slot_given_back_is_free_at_once() -> None:
    granted(take(give_back(full(1, Lane.WRITE, 0), 1), Lane.WRITE, 1, Millis(1)))


def test_a_slot_whose_owner_died_comes_free_by_itself() -> None:
    ledger = full(1, Lane.WRITE, 0)
    refused(take(ledger, Lane.WRITE, 1, Millis(CALL_MS + WINDOW_MS)))
    granted(take(ledger, Lane.WRITE, 1, Millis(CALL_MS + WINDOW_MS + MARGIN_MS)))


def test_a_lane_borrows_what_nobody_wants() -> None:
    assert full(30, Lane.SWEEP, 0).used(Lane.SWEEP) == 30


def test_a_lane_that_was_turned_away_has_its_share_kept() -> None:
    ledger = full(30, Lane.SWEEP, 0)
    ledger = refused(take(ledger, Lane.WRITE, 1, Millis(1))).ledger
    for slot in range(1, 31):
        ledger = end(ledger, slot, Millis(1))
    now = Millis(WINDOW_MS + MARGIN_MS + 1)
    ledger = refused(take(full(30, Lane.SWEEP, 0), Lane.WRITE, 1, now)).ledger
    ledger = with_room(ledger)
    taken = 0
    while isinstance(answer := take(ledger, Lane.SWEEP, 1, now), Granted):
        ledger, taken = answer.ledger, taken + 1
    assert taken == 30 * (1 - SHARES[Lane.WRITE]) - SPARE
    granted(take(ledger, Lane.WRITE, 2, now, goes_first=True))


def with_room(ledger: Ledger) -> Ledger:
    for slot in ledger.slots:
        ledger = give_back(ledger, slot.id)
    return ledger


def test_the_shares_make_a_whole() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_a_throttle_closes_the_door_and_halves_the_rate() -> None:
    ledger = throttle(new_ledger(30, CALL_MS), 7_000, Millis(1_000))
    assert refused(take(ledger, Lane.WRITE, 1, Millis(7_999))).wait_ms == 1
    after = granted(take(ledger, Lane.WRITE, 1, Millis(8_000))).ledger
    assert after.rate == 15


def test_many_calls_that_were_under_way_when_the_door_closed_halve_the_rate_once() -> None:
    ledger = new_ledger(32, CALL_MS)
    for _ in range(5):
        ledger = throttle(ledger, 2_000, Millis(1_000))
    assert ledger.rate == 16
    later = throttle(ledger, 7_000, Millis(2_999))
    assert (later.rate, later.closed_until) == (16, 9_999)
    assert throttle(ledger, 2_000, Millis(3_000)).rate == 8, "the door was open again"


def test_the_rate_recovers_by_adding() -> None:
    ledger = throttle(new_ledger(30, CALL_MS), 0, Millis(0))
    assert granted(take(ledger, Lane.WRITE, 1, Millis(30_000))).ledger.rate == 18
    assert granted(take(ledger, Lane.WRITE, 1, Millis(900_000))).ledger.rate == 30


def test_the_rate_never_falls_below_one_call() -> None:
    ledger = new_ledger(2, CALL_MS)
    for _ in range(5):
        ledger = throttle(ledger, 0, Millis(0))
    assert ledger.rate == 1
    granted(take(ledger, Lane.WRITE, 1, Millis(1)))


def test_two_slots_at_once_are_had_even_at_the_lowest_rate() -> None:
    """A write that needs its reading first takes both, or neither would ever be made."""
    ledger = throttle(throttle(new_ledger(3, CALL_MS), 0, Millis(0)), 0, Millis(0))
    granted(take(ledger, Lane.WRITE, 2, Millis(1)))


def test_a_new_ceiling_holds_from_now_on() -> None:
    assert with_limits(full(30, Lane.WRITE, 0), 30, CALL_MS).rate == 30
    assert with_limits(full(30, Lane.WRITE, 0), 10, CALL_MS).rate == 10
    assert with_limits(throttle(new_ledger(30, CALL_MS), 0, Millis(0)), 60, CALL_MS).rate == 15


@pytest.mark.parametrize(("limit", "spare"), [(600, SPARE), (30, SPARE), (29, 1), (14, 0)])
def test_spare_slots_are_for_who_goes_first(limit: int, spare: int) -> None:
    ledger, taken = new_ledger(limit, CALL_MS), 0
    while isinstance(answer := take(ledger, Lane.SWEEP, 1, Millis(0)), Granted):
        ledger, taken = answer.ledger, taken + 1
    assert taken == limit - spare
    if spare:
        ledger = granted(take(ledger, Lane.WRITE, spare, Millis(0), goes_first=True)).ledger
    refused(take(ledger, Lane.WRITE, 1, Millis(0), goes_first=True))


def test_spare_slots_are_nobodys_share() -> None:
    ledger = granted(take(new_ledger(30, CALL_MS), Lane.WRITE, 28, Millis(0))).ledger
    ledger = refused(take(ledger, Lane.SWEEP, 1, Millis(1))).ledger
    granted(take(ledger, Lane.WRITE, 2, Millis(2), goes_first=True))


def test_spare_slots_are_nothing_to_wait_for() -> None:
    ledger = granted(take(new_ledger(30, CALL_MS), Lane.WRITE, 28, Millis(0))).ledger
    answer = refused(take(ledger, Lane.WRITE, 1, Millis(1)))
    assert answer.wait_ms == CALL_MS + WINDOW_MS + MARGIN_MS - 1
    assert worth_it_in(ledger, 2, 1) == answer.wait_ms


def test_a_reservation_in_the_way_is_asked_about_again_soon() -> None:
    ledger = refused(take(full(10, Lane.SWEEP, 0), Lane.WRITE, 4, Millis(1))).ledger
    ledger = with_room(ledger)
    ledger = granted(take(ledger, Lane.SWEEP, 3, Millis(1))).ledger
    while isinstance(answer := take(ledger, Lane.SWEEP, 1, Millis(1)), Granted):
        ledger = answer.ledger
    assert 0 < answer.wait_ms <= 5_000


def worth_it_in(ledger: Ledger, count: int, now: int) -> int:
    return wait_ms(ledger, count, Millis(now))


class TestWhenItIsWorthWhileToBegin:
    def spent_at(self, *times: int, limit: int = 10) -> Ledger:
        """Calls that ended then; their slots are free a minute later."""
        ledger = new_ledger(limit, CALL_MS)
        for at in times:
            answer = granted(take(ledger, Lane.WRITE, 1, Millis(at)))
            ledger = end(answer.ledger, answer.slots[0], Millis(at))
        return ledger

    def test_at_once_while_there_are_slots_enough(self) -> None:
        assert worth_it_in(self.spent_at(0, 0, 0, 0), 6, 1_000) == 0

    def test_a_moment_before_the_last_one_comes_free(self) -> None:
        ledger = self.spent_at(*range(0, 5_000, 500))
        assert worth_it_in(ledger, 5, 10_000) == 2_000 - AHEAD_MS + WINDOW_MS + MARGIN_MS - 10_000

    def test_not_before_two_are_free(self) -> None:
        ledger = self.spent_at(*range(0, 1_000, 100))
        assert worth_it_in(ledger, 4, 10_000) == 100 + WINDOW_MS + MARGIN_MS - 10_000

    def test_with_what_there_is_when_the_next_is_far_off(self) -> None:
        ledger = self.spent_at(0, 0, 0, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000, 30_000)
        assert worth_it_in(ledger, 8, WINDOW_MS + MARGIN_MS) == 0
        assert worth_it_in(ledger, 8, 59_000) == WINDOW_MS + MARGIN_MS - 59_000, "they come together"

    def test_one_slot_is_not_enough_for_a_page_and_a_write(self) -> None:
        ledger = self.spent_at(0, *[40_000] * 9)
        assert worth_it_in(ledger, 8, WINDOW_MS + MARGIN_MS) == 40_000

    def test_never_for_more_than_the_rate_gives(self) -> None:
        assert worth_it_in(new_ledger(10, CALL_MS), 500, 0) == 0

    def test_not_before_the_door_is_open_again(self) -> None:
        assert worth_it_in(throttle(new_ledger(10, CALL_MS), 7_000, Millis(0)), 3, 1_000) == 6_000


def test_the_operator_borrows_while_nobody_waits_and_only_then() -> None:
    ledger = full(10, Lane.OPERATOR, 0)
    assert ledger.used(Lane.OPERATOR) == 10, "what is idle may be borrowed"
    ledger = refused(take(full(10, Lane.WRITE, 0), Lane.WRITE, 1, Millis(0))).ledger
    ledger = granted(take(with_room(ledger), Lane.WRITE, 1, Millis(0))).ledger
    ledger = granted(take(ledger, Lane.OPERATOR, 1, Millis(1))).ledger
    refused(take(ledger, Lane.OPERATOR, 1, Millis(2)))
    granted(take(ledger, Lane.SWEEP, 4, Millis(2)))  # customer sync's own lanes borrow what nobody has a right to


@pytest.mark.parametrize("limit", [2, 5, 9])
def test_a_share_below_one_call_is_one_call_or_no_token_would_ever_be_renewed(limit: int) -> None:
    ledger = refused(take(full(limit, Lane.WRITE, 0), Lane.WRITE, 1, Millis(1))).ledger
    one_is_free = end(ledger, ledger.slots[0].id, Millis(1))
    later = Millis(1 + WINDOW_MS + MARGIN_MS)
    waiting = refused(take(one_is_free, Lane.WRITE, 2, later)).ledger
    granted(take(waiting, Lane.OPERATOR, 1, later))
