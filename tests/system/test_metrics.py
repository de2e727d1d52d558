"""What dashboards and alerts live on: a full run emits every metric of the contract, and Prometheus reads them."""

from __future__ import annotations

import math
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.conftest import _missing
from tests.parts.prometheus import NoPrometheus, firing, last_error, prometheus
from tests.parts.world import World, eventually
from tests.system.conftest import MakeWorld
from tests.system.test_undo import carry_out, contested_world

ALERTS = Path(__file__).parent.parent.parent / "deploy" / "observability" / "alerts.yaml"
TOLD = {
    "events": {"form", "outcome"},
    "dead_letters": {"reason"},
    "ion_calls": {"lane", "operation", "status"},
    "ion_call_seconds": set(),
    "ion_budget_calls": {"state"},
    "ion_throttled": set(),
    "sync_lag_seconds": {"direction"},
    "pending_changes": {"direction"},
    "oldest_pending_seconds": {"direction"},
    "links": {"state"},
    "conflicts": {"field", "winner", "rule"},
    "echoes": {"side"},
    "unknown_outcomes": set(),
    "held_changes": set(),
    "quarantined_customers": set(),
    "incomplete_customers": set(),
    "sweep_seconds": set(),
    "sweep_age_seconds": set(),
    "sweeps": {"outcome"},
    "divergent_customers": set(),
    "oldest_unverified_seconds": set(),
    "token_expires_seconds": set(),
    "leader": set(),
    "build": {"version"},
    "kafka_lag_records": {"topic", "partition"},
    "orders": {"state"},
}
"""The contract's metrics, with those that came later, and their labels."""


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Family, without ``syncd_``, to its samples."""
    families = text_string_to_metric_families(text)
    return {f.name.removeprefix("syncd_"): [(dict(s.labels), s.value) for s in f.samples] for f in families}


def test_a_full_run_emits_every_metric_of_the_contract(make_world: MakeWorld) -> None:
    def make(**options: object) -> World:
        made = make_world(**options)
        made.environ["SYNCD_VERIFY__INTERVAL_SECONDS"] = "1"
        return made

    world, ion_id = contested_world(make, "live")
    world.ion.edit(ion_id, phone="+18135550199")
    eventually(lambda: [carry_out(world, c) for c in world.commands() if "phone" in c["data"]["set"]], "a command")
    world.topics.send("C9", b"not JSON")
    world.topics.flush()
    world.topics.edit("C1", title="Once more")

    def missing() -> set[str]:
        found = samples(world.metrics())
        return {name for name in TOLD if all(math.isnan(value) for _, value in found.get(name, []))}

    eventually(lambda: not missing(), "every metric has a value")
    directions = {labels["direction"] for labels, _ in samples(world.metrics())["sync_lag_seconds"]}
    assert directions == {"to-ion", "to-crm"}
    for name, labels in TOLD.items():
        for told, _ in samples(world.metrics())[name]:
            assert told.keys() - {"le"} == labels, name


def test_prometheus_itself_scrapes_it_and_an_alert_fires(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(dialect="live", customers=1)
    world.start()
    try:
        with prometheus(tmp_path, world.address.removeprefix("http://"), ALERTS) as server:
            assert eventually(lambda: [last_error(server)] if last_error(server) is not None else [], "a scrape") == [
                ""
            ]
            world.topics.send("C9", b"not JSON")
            world.topics.flush()
            eventually(lambda: "SyncdDeadLetters" in firing(server), "the alert fires")
            assert firing(server) == {"SyncdDeadLetters"}
    except NoPrometheus as error:
        _missing("Prometheus", str(error))
