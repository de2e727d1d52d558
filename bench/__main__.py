"""``make bench``: everything, one after the other, into the table of ``docs/measurements.md``. It takes hours."""

from __future__ import annotations

import sys

from bench import drain, first_contact, freshness, ingest, latency, start, sweep
from bench.table import build, show, write

MEASUREMENTS = {
    "start": start,
    "latency": latency,
    "ingest": ingest,
    "sweep": sweep,
    "drain": drain,
    "first_contact": first_contact,
    "freshness": freshness,
}


def main(names: list[str]) -> None:
    for name in names or MEASUREMENTS:
        print(f"== {name}", flush=True)
        began = build()
        rows = MEASUREMENTS[name].measure()
        show(rows)
        write(rows, began)


if __name__ == "__main__":
    main(sys.argv[1:])
