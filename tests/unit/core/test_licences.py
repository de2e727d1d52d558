"""Licences: the module's table of drift, the roll-up with its money, and what is not under contract."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from syncd.core.licences import (
    Contract,
    Drift,
    DriftKind,
    Gap,
    Moved,
    Roll,
    Subscription,
    balance,
    gaps,
    moved,
    roll_up,
    unlisted,
)
from syncd.core.values import Millis

NOW = Millis(7)


def licence(number: str = "1", seats: int = 5, customer: str = "301", **more: object) -> Subscription:
    made = Subscription(
        number, customer, "Suite", "Microsoft", "S1", seats, "active", Decimal(20), Decimal(17), "USD"
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "drift"),
    [
        (None, licence(), Drift(NOW, DriftKind.NEW, licence(), 0)),
        (licence(), licence(seats=9), Drift(NOW, DriftKind.SEATS, licence(seats=9), 5)),
        (licence(), licence(status="suspended"), Drift(NOW, DriftKind.SEATS, licence(status="suspended"), 5)),
        (licence(is_listed=False), licence(), Drift(NOW, DriftKind.SEATS, licence(), 0)),
        (licence(), licence(name="Suite 2"), None),
    ],
)
def test_what_moved_between_two_snapshots(
    before: Subscription | None, after: Subscription, drift: Drift | None
) -> None:
    known = {"1": before} if before else {}
    assert moved(known, [licence(seats=1), after], NOW, is_first=False) == Moved([after], [drift] if drift else [])
    assert moved(known, [after], NOW, is_first=True) == Moved([after], []), "nothing can have moved yet"


def test_what_is_as_it_was_says_nothing() -> None:
    assert moved({"1": licence()}, [licence()], NOW, is_first=False) == Moved([], [])


def test_who_is_not_listed_is_kept_and_said_once() -> None:
    idle = licence("2", status="cancelled")
    gone, idle_gone = replace(licence(), is_listed=False), replace(idle, is_listed=False)
    found = unlisted([licence(), idle, licence("3")], frozenset({"3"}), NOW)
    assert found == Moved([gone, idle_gone], [Drift(NOW, DriftKind.NOT_LISTED, gone, 5)])
    assert found.drift[0].seats == 0
    assert unlisted(found.changed, frozenset(), NOW) == Moved([], [])


def test_seats_that_came_and_seats_that_went() -> None:
    ups = Drift(NOW, DriftKind.SEATS, licence(seats=9), 5)
    downs = Drift(NOW, DriftKind.NOT_LISTED, replace(licence(), is_listed=False), 5)
    assert balance([ups, downs, ups]) == (8, 5)


def test_active_seats_add_up_by_sku_and_currency_and_are_worth_what_is_known() -> None:
    rolls = roll_up(
        [
            licence("1"),
            licence("2", seats=3, customer="302"),
            licence("3", status="suspended"),
            licence("4", currency="EUR", cost=None),
            licence("5", sku="S2", vendor=None, name=None, currency=None, price=None),
        ]
    )
    assert rolls == (
        Roll("", "S2", "S2", 1, 5, Decimal(85), None, None),
        Roll("Microsoft", "S1", "Suite", 1, 5, None, Decimal(100), "EUR"),
        Roll("Microsoft", "S1", "Suite", 2, 8, Decimal(136), Decimal(160), "USD"),
    )
    assert [roll.margin for roll in rolls] == [None, None, Decimal(24)]


def test_what_is_not_as_under_contract_is_told_by_customer_and_sku() -> None:
    held = [licence("1"), licence("2", seats=2), licence("3", customer="302"), licence("4", customer="999")]
    contracts = [Contract("C1", "S1", 7), Contract("C2", "S1", 4), Contract("C3", "S9", 6)]
    found = gaps(held, {"301": "C1", "302": "C2"}, contracts)
    assert found == [
        Gap("C2", "302", "S1", 5, 4),
        Gap("C3", None, "S9", 0, 6),
        Gap(None, "999", "S1", 5, 0),
    ]
    assert [gap.uncontracted for gap in found] == [1, 0, 5]
