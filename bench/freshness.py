"""On paper: how old is what was changed in ION when syncd sees it, by customers, page size, budget and edits?

Five weeks of edits at random, most of them in ten hours of each day, against two ways to sweep: at one interval, as
syncd does, and adaptively, which comes back soon after a sweep that found something and ever later after those that
found nothing. Beside it the formula by which a user can size. ``python -m bench.freshness``; ``make bench`` puts it
into ``docs/sizing.md``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from bench.table import HOME, Row, put
from syncd.core.budget import SHARES, Lane, new_ledger

PAGE = HOME / "docs" / "sizing.md"
BEGIN = "<!-- simulated: python -m bench.freshness -->"
DAY, WEEK = 86_400.0, 7 * 86_400.0
BUSY_FROM, BUSY_UNTIL, BUSY_SHARE = 8 * 3_600.0, 18 * 3_600.0, 0.9
CALLS_PER_WRITE = 2.0
"""A look and a PUT; many at once share their looks."""
SEEDS = range(1, 6)
"""A week each."""
LONGEST = 8
"""An adaptive sweep comes back after so many intervals at the latest."""


@dataclass(frozen=True, slots=True)
class Tenant:
    customers: int
    page_size: int
    calls_per_minute: int
    ion_edits_a_day: int
    crm_edits_a_day: int
    interval: float = 60.0

    @property
    def pages(self) -> int:
        return max(1, math.ceil(self.customers / self.page_size))

    def seconds_a_page(self, at: float) -> float:
        """Between two pages, as far as writes leave room."""
        writes = CALLS_PER_WRITE * self.crm_edits_a_day * 60 * density(at)
        most = new_ledger(self.calls_per_minute, 0).capacity(goes_first=False)
        left = max(most - writes, SHARES[Lane.SWEEP] * self.calls_per_minute)
        return 60 / left

    def formula(self) -> float:
        """Seconds from edit to sighting, on average: half of the time from sweep to sweep, in busy hours."""
        return max(self.interval, self.pages * self.seconds_a_page(BUSY_FROM)) / 2


def density(at: float) -> float:
    """Share of a day's edits in the second at ``at``."""
    is_busy = BUSY_FROM <= at % DAY < BUSY_UNTIL
    busy = BUSY_UNTIL - BUSY_FROM
    return BUSY_SHARE / busy if is_busy else (1 - BUSY_SHARE) / (DAY - busy)


def edits_of(tenant: Tenant, rng: Random) -> list[tuple[float, int]]:
    """When, and on which page."""
    found = []
    for day in range(7):
        for _ in range(tenant.ion_edits_a_day):
            if rng.random() < BUSY_SHARE:
                at = rng.uniform(BUSY_FROM, BUSY_UNTIL)
            else:
                at = (BUSY_UNTIL + rng.uniform(0, DAY - BUSY_UNTIL + BUSY_FROM)) % DAY
            found.append((day * DAY + at, rng.randrange(tenant.pages)))
    return sorted(found)


Gap = Callable[[float, bool], float]
"""From the gap between the last two sweeps, and whether the last one found something: the next gap."""


def uniform(tenant: Tenant) -> Gap:
    return lambda _, __: tenant.interval


def adaptive(tenant: Tenant) -> Gap:
    least, most = tenant.interval / 4, tenant.interval * LONGEST
    return lambda gap, has_found: least if has_found else min(most, max(tenant.interval, gap * 2))


def weeks(tenant: Tenant, gap_after: Gap) -> tuple[list[float], int]:
    """How old each edit was when it was seen, and how many calls the sweeps took in a week."""
    ages, calls = zip(*(week(tenant, gap_after, seed) for seed in SEEDS), strict=True)
    return [age for some in ages for age in some], sum(calls) // len(SEEDS)


def week(tenant: Tenant, gap_after: Gap, seed: int) -> tuple[list[float], int]:
    edits = edits_of(tenant, Random(seed))
    waiting, ages, calls, start, gap, following = list[tuple[float, int]](), list[float](), 0, 0.0, tenant.interval, 0
    while start < WEEK:
        pace = tenant.seconds_a_page(start)
        end = start + tenant.pages * pace
        while following < len(edits) and edits[following][0] <= end:
            waiting.append(edits[following])
            following += 1
        seen = [(at, page) for at, page in waiting if at <= start + page * pace]
        ages += [start + page * pace - at for at, page in seen]
        waiting = [edit for edit in waiting if edit not in set(seen)]
        calls += tenant.pages
        gap = gap_after(gap, bool(seen))
        start = max(end, start + gap)
    return ages, calls


TENANTS = (
    Tenant(500, 1_000, 30, 50, 200),
    Tenant(5_000, 1_000, 30, 200, 1_000),
    Tenant(5_000, 100, 30, 200, 1_000),
    Tenant(20_000, 1_000, 30, 500, 3_000),
    Tenant(20_000, 100, 30, 500, 3_000),
    Tenant(100_000, 1_000, 120, 2_000, 10_000),
    Tenant(1_000_000, 1_000, 600, 10_000, 50_000),
)


def as_many(tenant: Tenant, calls: int) -> Tenant:
    """The same with one interval that takes so many calls in the week."""
    return replace(tenant, interval=max(WEEK * tenant.pages / calls, tenant.pages * tenant.seconds_a_page(0)))


def line(tenant: Tenant) -> str:
    ages, calls = weeks(tenant, uniform(tenant))
    adapted, fewer = weeks(tenant, adaptive(tenant))
    matched, _ = weeks(as_many(tenant, fewer), uniform(as_many(tenant, fewer)))
    cells = (
        f"{tenant.customers:,}",
        f"{tenant.page_size:,}",
        f"{tenant.calls_per_minute}",
        f"{tenant.ion_edits_a_day:,} / {tenant.crm_edits_a_day:,}",
        f"{tenant.formula():,.0f} s",
        f"{statistics.mean(ages):,.0f} s, {statistics.quantiles(ages, n=20)[18]:,.0f} s",
        f"{calls // 7:,}",
        f"{statistics.mean(adapted):,.0f} s",
        f"{fewer // 7:,}",
        f"{statistics.mean(matched):,.0f} s",
    )
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| customers | page | calls a minute | edits a day, ION / CRM | formula, mean in busy hours | one interval: mean,"
    " 95 % | calls a day | adaptive: mean | calls a day | one interval with as many calls: mean |"
)


def table() -> str:
    return "\n".join((HEAD, "| --- " * HEAD.count(" | ") + "| --- |", *map(line, TENANTS)))


def measure() -> list[Row]:
    """Into the page where it is explained, and no rows of its own."""
    put(PAGE, BEGIN, table())
    return []


if __name__ == "__main__":
    print(table())
