"""Many changed customers at once: one listing serves them all, instead of a GET for each (S5, S11).

Rules
1. Whoever began to wait for a write after the last listing began, and is no part of a crowd, takes a GET of
   its own: an ION edit that is younger than a listed reading would be overwritten unseen.
2. In a crowd they wait for the next listing, which is made as soon as those are served whom the last one has
   shown, or its readings are old. A page serves those on it, as far as there are slots for them; from then on the
   others wait anew.
3. Whoever waited already when the last listing began, and was on no page of it, goes alone; so does
   whoever is late for whatever reason.
4. A newcomer, who came after all others and hardly anybody with him, is no part of a crowd: somebody looks at a
   screen and waits. He is decided first and goes alone at once, one after the other at such a pace that newcomers
   never take more than their share of the budget.

So hardly anybody waits longer than until the next listing has ended, well or not, and nothing has to
be remembered but when it began.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from syncd.core.values import Millis
from syncd.core.work import Waiting

CROWD = 5
"""So many at least."""
SAVING = 2
"""A listing is worth while from so many customers a page on."""
MANY = 20
"""Writes that a page should find slots for, if there are so many: the page itself is then hardly felt."""
SPREAD = 1.5
"""A page may hold more of the crowd than its share."""
GATHER_MS = 3_000
"""So long those who are still being decided are waited for."""
LATE_MS = 1_800_000
"""After so long without a listing a customer goes alone, whatever keeps listings from coming."""
FEW, MOMENT_MS = 5, 5_000
"""Newcomers are those of whom no more than so many came within so long."""
NEWCOMERS = 20
"""So many are known at most."""
NEWCOMERS_SHARE = 0.25
"""Of the budget, while others wait; each takes a look and a write."""


class Turn(NamedTuple):
    """Whose turn it is while a crowd waits."""

    listed: Millis
    """Those who waited before this moment: the last listing began then, and did not show them."""
    fresh: Millis
    """Those whom a page has shown since; they go first."""
    late: Millis
    """Those who wait since before this: for how long nobody has shown them."""
    is_only_for_shown: bool = False
    """So many others wait for slots already that only those go whom a page has shown."""


class Crowd(NamedTuple):
    """Linked customers on their way to a write in ION, counted no further than asked for."""

    deciding: int
    """May yet turn out to need none. Of a long backlog, those at its beginning."""
    unshown: int
    """Wait for a page to show them."""
    shown: int
    """A page has shown them a moment ago: they wait for slots."""


def enough(pages: int) -> int:
    """So many are a crowd where a listing has so many pages."""
    return max(CROWD, SAVING * pages)


def newcomers(newest: Sequence[Waiting]) -> list[Waiting]:
    """Of the ``NEWCOMERS + FEW`` who came last, the last one first: those behind the last that came with many."""
    for number, (each, other) in enumerate(zip(newest, newest[FEW:], strict=False)):
        if each.since - other.since <= MOMENT_MS:
            return list(newest[:number])
    return list(newest[:NEWCOMERS])


def newcomers_pace_ms(calls_per_minute: int) -> int:
    """So long lies between two newcomers for whom all others wait."""
    return int(2 * 60_000 / (NEWCOMERS_SHARE * calls_per_minute))


def slots_wanted(crowd: Crowd, pages_left: int) -> int:
    """For the next page, the writes that it will serve, and those that the pages before left waiting."""
    writes = math.ceil(SPREAD * crowd.unshown / max(1, pages_left))
    return crowd.shown + 1 + min(MANY, writes)
