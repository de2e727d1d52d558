"""S5: when one listing serves many, and how many slots a page of it is worth waiting for."""

from __future__ import annotations

import pytest

from syncd.core.crowd import MANY, Crowd, enough, slots_wanted


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
