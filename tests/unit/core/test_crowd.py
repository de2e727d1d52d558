"""S5: when one listing serves many, and how many slots a page of it is worth waiting for."""

from __future__ import annotations

import pytest

from syncd.core.crowd import FEW, MANY, NEWCOMERS, Crowd, enough, newcomers, newcomers_pace_ms, slots_wanted
from syncd.core.values import Millis, Subject
from syncd.core.work import Stage, Waiting


@pytest.mark.parametrize(
    ("pages", "least"),
    [
        pytest.param(1, 5, id="a handful takes looks of their own"),
        pytest.param(2, 5, id="two pages for five"),
        pytest.param(10, 20, id="ten pages save ten looks of twenty"),
    ],
)
def test_what_makes_a_crowd(pages: int, least: int) -> None:
    assert enough(pages) == least


@pytest.mark.parametrize(
    ("crowd", "pages_left", "slots"),
    [
        pytest.param(Crowd(0, 6, 0), 1, 10, id="the page, and a few more writes than there are: they come unevenly"),
        pytest.param(Crowd(0, 300, 0), 1, 1 + MANY, id="of many some, the page is then hardly felt"),
        pytest.param(Crowd(0, 20, 0), 10, 4, id="their share of this page"),
        pytest.param(Crowd(7, 20, 8), 10, 12, id="after those whom the pages before left waiting"),
        pytest.param(Crowd(0, 6, 0), 0, 10, id="the listing has grown by a page"),
    ],
)
def test_the_slots_for_a_page_and_its_writes(crowd: Crowd, pages_left: int, slots: int) -> None:
    assert slots_wanted(crowd, pages_left) == slots


@pytest.mark.parametrize(
    ("came", "count"),
    [
        pytest.param([], 0, id="nobody waits"),
        pytest.param([0], 1, id="one"),
        pytest.param([90_000, *[0] * 300], 1, id="one, long after a crowd"),
        pytest.param([3_000, *[0] * 300], 0, id="one in the midst of a crowd"),
        pytest.param([90_000] * FEW + [0] * 300, FEW, id="a few together"),
        pytest.param([90_000] * (FEW + 1), 0, id="one more than that"),
        pytest.param([9_000_000, 6_000_000, 3_000_000, *[0] * 300], 3, id="one after the other"),
        pytest.param(list(range(900_000, 0, -15_000)), NEWCOMERS, id="one after the other, for long"),
        pytest.param(list(range(900_000, 0, -900)), 0, id="a crowd that comes bit by bit"),
    ],
)
def test_newcomers_come_after_all_others_and_few_at_a_time(came: list[int], count: int) -> None:
    waiting = [Waiting(Subject(f"crm:{n}"), Stage.CALL, Millis(at)) for n, at in enumerate(came)]
    newest = waiting[: NEWCOMERS + FEW]
    assert newcomers(newest) == waiting[:count]


def test_newcomers_never_take_more_than_a_quarter_of_the_calls() -> None:
    assert newcomers_pace_ms(30) == 16_000  # of two calls each, where there is one each two seconds
