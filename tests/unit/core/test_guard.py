"""S9: limits, bursts, breaches; the plan and its digest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.guard import NOTHING, Breach, GuardState, Limits, Tally, breach, total_of
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.plan import Change, ChangeKind, ChangeState, change_of, digest_of, make_plan
from syncd.core.policy import Dialect
from syncd.core.values import Field, Millis, Side, Subject

DEFAULTS = Limits()


@pytest.mark.parametrize(
    ("limits", "linked", "ceilings"),
    [
        pytest.param(DEFAULTS, 0, Tally(100, 300, 20, 20), id="few customers: absolute limits alone"),
        pytest.param(DEFAULTS, 49, Tally(100, 300, 20, 20), id="one below fifty"),
        pytest.param(DEFAULTS, 50, Tally(15, 15, 20, 15), id="from fifty on thirty percent"),
        pytest.param(DEFAULTS, 2_000, Tally(100, 300, 20, 20), id="many customers: absolute limits are smaller"),
        pytest.param(Limits(Tally(0, 0, 0, 0), 30), 100, Tally(30, 30, 0, 30), id="no limit, but a part"),
        pytest.param(Limits(Tally(5, 5, 5, 5), 0), 100, Tally(5, 5, 5, 5), id="no part"),
        pytest.param(Limits(NOTHING, 0), 100, NOTHING, id="no limit at all"),
    ],
)
def test_limits_are_absolute_and_a_part_of_the_linked(limits: Limits, linked: int, ceilings: Tally) -> None:
    assert limits.ceilings(linked) == ceilings


@pytest.mark.parametrize(
    ("limits", "burst"),
    [
        (DEFAULTS, 2),
        (Limits(Tally(100, 300, 0, 0), 0), 10),
        (Limits(Tally(3, 3, 3, 3), 0), 1),
        (Limits(NOTHING, 0), 0),
    ],
)
def test_a_tenth_of_the_smallest_limit_may_be_a_burst(limits: Limits, burst: int) -> None:
    assert limits.burst_from(0) == burst


def test_a_limit_is_passed_by_one_more_and_no_sooner() -> None:
    ceilings = Tally(100, 300, 20, 20)
    assert breach(ceilings, ceilings) is None
    found = breach(Tally(updates=301), ceilings)
    assert found == Breach("updates", 301, 300)
    assert str(found) == "301 updates in an hour, and the limit is 300"
    assert "2 link changes" in str(breach(Tally(link_changes=2), Tally(0, 0, 0, 1)))


def test_the_limit_that_is_passed_furthest_is_named() -> None:
    found = breach(Tally(creates=150, cleared_fields=100), Tally(100, 300, 20, 20))
    assert found is not None
    assert found.kind == "cleared_fields"


def test_no_limit_is_never_passed() -> None:
    assert breach(Tally(10**6, 10**6, 10**6, 10**6), NOTHING) is None


@given(st.tuples(*[st.integers(0, 50)] * 4), st.tuples(*[st.integers(0, 50)] * 4))
def test_more_is_never_less_of_a_breach(some: tuple[int, ...], more: tuple[int, ...]) -> None:
    ceilings = Tally(10, 20, 5, 5)
    if breach(Tally(*some), ceilings) is not None:
        assert breach(total_of([Tally(*some), Tally(*more)]), ceilings) is not None


def test_held_or_paused_is_closed() -> None:
    assert not GuardState().is_closed
    assert GuardState(held_since=Millis(1)).is_closed
    assert GuardState(paused_since=Millis(1)).is_closed


def change(number: str = "a", **changes: object) -> Change:
    whole = Change(
        number,
        Subject("crm:1"),
        Side.ION,
        ChangeKind.UPDATE,
        {Field.COMPANY: "New"},
        {Field.COMPANY: "Old"},
        {Field.COMPANY: "Old"},
        Millis(5),
        context="c",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "tally"),
    [
        pytest.param(change(), Tally(updates=1), id="an update"),
        pytest.param(
            change(set={Field.PHONE: None}, expect={Field.PHONE: "1"}), Tally(0, 1, 1), id="a cleared field"
        ),
        pytest.param(
            change(set={Field.PHONE: None}, expect={}), Tally(updates=1), id="blank to blank clears nothing"
        ),
        pytest.param(change(kind=ChangeKind.CREATE), Tally(creates=1), id="a create"),
        pytest.param(change(kind=ChangeKind.LINK, set={}), Tally(link_changes=1), id="a link"),
    ],
)
def test_what_a_change_counts_for(changed: Change, tally: Tally) -> None:
    assert changed.tally == tally


def test_cleared_fields_are_parts_of_updates() -> None:
    assert Tally(1, 2, 3, 4).changes == 7


def test_a_change_is_the_intent_it_becomes() -> None:
    intent = Intent(
        "i", Subject("crm:1"), Side.CRM, Kind.CREATE, {Field.TITLE: "x"}, {}, IntentState.PREPARED, Millis(3)
    )
    made = change_of(intent, {Field.TITLE: "w"})
    assert (made.id, made.kind, made.set, made.base, made.at) == (
        "i",
        ChangeKind.CREATE,
        intent.set,
        {Field.TITLE: "w"},
        3,
    )


def digest(*changes: Change, mapping: str = "") -> str:
    return make_plan(changes, reason="", mapping=mapping, dialect=None, rate=30).digest


def test_a_plan_is_the_same_in_any_order() -> None:
    assert digest(change("a"), change("b")) == digest(change("b"), change("a"))
    assert len(digest(change("a"))) == 16


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([change("b")], id="another decision"),
        pytest.param([change(), change("b")], id="one more"),
        pytest.param([], id="nothing"),
        pytest.param([change(set={Field.COMPANY: "Newer"})], id="another value"),
        pytest.param([change(expect={Field.COMPANY: "Older"})], id="over another value"),
        pytest.param([change(base={Field.COMPANY: "Older"})], id="another base"),
        pytest.param([change(context="d")], id="another configuration"),
        pytest.param([change(state=ChangeState.PASSED)], id="already let go"),
    ],
)
def test_another_plan_has_another_digest(other: list[Change]) -> None:
    assert digest(*other) != digest(change())


def test_a_changed_mapping_changes_the_digest() -> None:
    assert digest(change(), mapping="m") != digest(change())
    assert digest_of([], "m") != digest_of([], "")


@pytest.mark.parametrize(
    ("dialect", "changed", "calls"),
    [
        (Dialect.LIVE, change(), 2),
        (Dialect.SEED, change(), 2),
        (Dialect.LIVE, change(kind=ChangeKind.CREATE), 2),
        (Dialect.SEED, change(kind=ChangeKind.CREATE), 1),
        (None, change(kind=ChangeKind.LINK, set={}), 1),
        (Dialect.LIVE, change(side=Side.CRM), 0),
    ],
)
def test_a_plan_says_what_it_costs(dialect: Dialect | None, changed: Change, calls: int) -> None:
    plan = make_plan([changed], reason="because", mapping="", dialect=dialect, rate=30)
    assert (plan.ion_calls, plan.minutes, plan.reason) == (calls, calls / 30, "because")
    assert plan.tally == changed.tally
    assert make_plan([changed], reason="", mapping="", dialect=dialect, rate=0).minutes == 0
