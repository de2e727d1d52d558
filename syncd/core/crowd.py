"""Many changed customers at once: one listing serves them all, instead of a GET for each (S5).

Rules
1. Whoever began to wait for a write after the last listing began, and is no part of a crowd, takes a GET of
   its own: an ION edit that is younger than a listed reading would be overwritten unseen.
2. In a crowd they wait for the next listing, which is made at once. A page serves those on it, as far as there
   are slots for them; from then on the others wait anew.
3. Whoever waited already when the last listing began, and was on no page of it, goes alone; so does
   whoever is late for whatever reason.

So hardly anybody waits longer than until the next listing has ended, well or not, and nothing has to
be remembered but when it began.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from syncd.core.values import Millis

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
"""After so long a customer goes alone, whatever kept it."""


class Turn(NamedTuple):
    """Whose turn it is while a crowd waits."""

    listed: Millis
    """Those who waited already at this moment: the last listing began then, and did not show them."""
    fresh: Millis
    """Those whom a page has shown since; they go first."""
    late: Millis
    """Those who came before this."""
    is_only_for_shown: bool = False
    """So many others wait for slots already that only those go whom a page has shown."""


class Crowd(NamedTuple):
    """Linked customers on their way to a write in ION, counted no further than asked for."""

    deciding: int
    """May yet turn out to need none."""
    unshown: int
    """Wait for a page to show them."""
    shown: int
    """A page has shown them a moment ago: they wait for slots."""


def enough(pages: int) -> int:
    """So many are a crowd where a listing has so many pages."""
    return max(CROWD, SAVING * pages)


def slots_wanted(crowd: Crowd, pages_left: int) -> int:
    """For the next page, the writes that it will serve, and those that the pages before left waiting."""
    writes = math.ceil(SPREAD * crowd.unshown / max(1, pages_left))
    return crowd.shown + 1 + min(MANY, writes)
