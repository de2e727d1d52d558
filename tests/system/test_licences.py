"""The daemon's own snapshots of licences, beside contracts from the CRM over real Kafka."""

from __future__ import annotations

from typing import Any

from tests.parts.world import eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_metrics import samples


def test_the_daemon_takes_snapshots_and_tells_what_moved(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=3, calls_per_minute=600)
    topics = {
        name: f"{world.topics.events}.{name.lower()}" for name in ("CONTRACTS", "SUBSCRIPTIONS", "DRIFT", "PRODUCTS")
    }
    intervals = {f"SYNCD_{name}__INTERVAL_SECONDS": "2" for name in ("SUBSCRIPTIONS", "CATALOGUE")}
    world.start(**intervals, **{f"SYNCD_KAFKA__{name}_TOPIC": topic for name, topic in topics.items()})

    def seats() -> dict[str, float]:
        return {labels["vendor"]: value for labels, value in samples(world.metrics()).get("licence_seats", [])}

    shop = http("GET", f"{world.ion.url}/_sim/shop")["subscriptions"]
    eventually(lambda: sum(seats().values()) == sum(one["seats"] for one in shop), "the first snapshot", 60)
    one = shop[0]
    http("PATCH", f"{world.ion.url}/_sim/subscriptions/{one['id']}", {"seats": one["seats"] + 5})

    def drift() -> list[Any]:
        return [move for _, move in world.topics.read(topics["DRIFT"])]

    [move] = eventually(drift, "what moved is told", 60)
    assert (move["was"], move["is"], move["subscription"]["id"]) == (one["seats"], one["seats"] + 5, one["id"])
    contract = {"customer": "C1", "sku": one["product"]["sku"], "seats": 40}
    world.topics.send("C1", contract, topic=topics["CONTRACTS"])
    world.topics.send("C2", {"customer": "C2", "sku": "S", "seats": -1}, topic=topics["CONTRACTS"])
    world.topics.flush()

    def contracted() -> list[Any]:
        return [gap for gap in world.look("licences")["gaps"] if gap["customer"] == "C1"]

    [gap] = eventually(contracted, "the contract is compared")
    assert gap["contracted"] == 40
    letters = [
        letter["detail"] for letter in eventually(lambda: world.look("dead-letters"), "the other can't be used")
    ]
    assert letters == ["seats must be a whole number from 0 to 10000000, not -1"]
    assert len(world.topics.read(topics["PRODUCTS"])) == 5, "the catalogue was imported, and told once"
    assert "What moved" in world.syncd("ion", "subscriptions", "digest").stdout
