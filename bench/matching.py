"""How often does matching link the right ones, how often the wrong ones, and how long does it take?

Made customers of whom it is known who is who (``tests/parts/population.py``), judged by the very function that
the daemon uses. ``python -m bench.matching``; ``BENCH_CUSTOMERS=100000`` for the large one.
"""

from __future__ import annotations

import asyncio
import os
import time

from tests.parts.population import make_population, measure

CUSTOMERS = int(os.environ.get("BENCH_CUSTOMERS", "20000"))
SEED = int(os.environ.get("BENCH_SEED", "1"))


def main() -> None:
    people = make_population(CUSTOMERS, SEED)
    started = time.process_time()
    found = asyncio.run(measure(people, SEED))
    took = time.process_time() - started
    judged = len(people.crm) + len(people.ion)
    print(
        f"{len(people.crm)} CRM and {len(people.ion)} ION customers, {len(people.truth)} of them the same:"
        f" {len(found.links)} linked, {len(found.wrong)} wrong (precision {found.precision():.4f},"
        f" recall {found.recall(people):.3f}); of the others {found.shown(people):.1%} are shown to a person;"
        f" {len(found.in_review)} reviews; {took:.1f} CPU s, {took / judged * 1000:.2f} ms a customer"
    )
    print("linked by", ", ".join(f"{tier} {count}" for tier, count in found.how.most_common()))
    for crm_id, ion_id in found.wrong[:10]:
        print("wrong:", people.crm[crm_id].values(), "is not", people.ion[ion_id].values())


if __name__ == "__main__":
    main()
