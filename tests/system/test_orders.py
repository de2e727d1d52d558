"""Orders from the CRM over real Kafka: killed in the middle of one, there is one in ION; dear ones wait."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.parts.world import World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import linked_world

PREMIUM = {"product": "901", "sku": "CFQ7TTC0LCHC", "quantity": 5}


def ordering_world(make_world: MakeWorld, dialect: str) -> World:
    """C1 is linked, the catalogue is known, and orders are taken."""
    world, _ = linked_world(make_world, dialect)
    world.stop()
    assert world.syncd("ion", "products", "import").returncode == 0
    topics = {"ORDERS": f"{world.topics.events}.orders", "ORDER_STATUS": f"{world.topics.events}.status"}
    world.start(**{f"SYNCD_KAFKA__{name}_TOPIC": topic for name, topic in topics.items()})
    eventually(lambda: world.sql("SELECT 1 FROM notes WHERE name = 'orders_since'"), "orders are taken")
    return world


def order(world: World, order_id: str, **item: Any) -> None:
    told = {"id": order_id, "customer": "C1", "items": [{**PREMIUM, **item}]}
    world.topics.send(order_id, told, topic=world.environ["SYNCD_KAFKA__ORDERS_TOPIC"])
    world.topics.flush()


def placed(world: World) -> list[dict[str, Any]]:
    return list(http("GET", f"{world.ion.url}/_sim/shop")["orders"])


def told(world: World, order_id: str) -> list[str]:
    """What the CRM was told became of it, in turn."""
    records = world.topics.read(world.environ["SYNCD_KAFKA__ORDER_STATUS_TOPIC"])
    return [event["data"]["state"] for key, event in records if key == order_id.encode()]


@pytest.mark.parametrize("dialect", ["live", "seed"])
def test_killed_in_the_middle_of_an_order_it_makes_one(make_world: MakeWorld, dialect: str) -> None:
    world = ordering_world(make_world, dialect)
    world.ion.fault("timeout-after", "create_order")
    order(world, "SO-1", **({"plan": "P1M"} if dialect == "live" else {}))
    eventually(lambda: placed(world), "the order is in ION, and nobody has heard of it")
    world.stop(signal.SIGKILL)
    world.start()
    eventually(lambda: world.look("orders")[0]["state"] == "placed", "it was found", 90)
    [made] = placed(world)
    assert world.look("orders")[0]["ion_order"] == made["id"]
    http("PATCH", f"{world.ion.url}/_sim/orders/{made['id']}", {"status": "COMPLETED"})
    eventually(lambda: told(world, "SO-1")[-1:] == ["ended"], "the CRM hears that ION is done with it", 120)
    assert told(world, "SO-1")[-2:] == ["placed", "ended"]
    assert len(placed(world)) == 1


def test_a_person_decides_on_what_is_dear(make_world: MakeWorld) -> None:
    world = ordering_world(make_world, "live")
    order(world, "SO-1", plan="P1M", quantity=500)
    order(world, "SO-2", quantity=0)
    eventually(lambda: told(world, "SO-1") == ["held"], "it is held")
    eventually(lambda: told(world, "SO-2") == ["refused"], "the other can't be used")
    shown = world.syncd("ion", "orders", "incoming", "--state", "held")
    assert "11000.00" in shown.stdout
    assert world.json("ion", "orders", "incoming")[0]["reason"] == "it costs 11000.00 USD, and the limit is 1000.00"
    assert "1 held; see `syncd ion orders incoming --state held`" in world.syncd("status").stdout
    assert "quantity must be a whole number from 1" in world.syncd("dead-letters", "list").stdout
    assert placed(world) == []
    assert world.syncd("ion", "orders", "release", "SO-1").returncode == 0
    eventually(lambda: told(world, "SO-1") == ["held", "waiting", "placed"], "it goes")
    assert "order-placed" in world.syncd("explain", "C1").stdout
    done = world.syncd("ion", "orders", "drop", "SO-1")
    assert (done.returncode, "only one that was not sent, or was refused, can be dropped" in done.stderr) == (1, True)
