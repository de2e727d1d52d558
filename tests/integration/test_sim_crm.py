"""The simulated CRM's end of Kafka: the tests and the demo lean on it, so it must stand what a CRM stands."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict

from syncd.sim.crm import Crm, CrmOptions, on_kafka
from tests.parts.kafka import Kafka
from tests.parts.world import Topics


async def test_a_broker_that_is_killed_costs_neither_commands_nor_events_nor_their_order(broker: Kafka) -> None:
    events, commands = Topics(broker.address, "told"), Topics(broker.address, "asked")
    options = CrmOptions(4, 1, broker.address, events_topic=events.events, commands_topic=commands.events)
    crm = Crm(options)
    sent = 0

    async def busy() -> None:
        nonlocal sent
        for number in itertools.count():
            crm.change(f"C0000{number % 4 + 1}", {"title": f"title {number}"})
            data = {"crm_id": "C00001", "set": {"phone": f"phone {number}"}}
            commands.send("C00001", {"id": f"command {number}", "type": "syncd.customer.update", "data": data})
            sent += 1
            await asyncio.sleep(0.05)

    async with on_kafka(crm):
        work = asyncio.create_task(busy())
        for _ in range(2):
            await asyncio.sleep(1)
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(1)
            await asyncio.to_thread(broker.start)
        work.cancel()
        async with asyncio.timeout(60):
            while crm.events or crm.commands < sent:
                await asyncio.to_thread(commands.flush)
                await asyncio.sleep(0.1)
    assert crm.commands == sent, "each once"
    told = defaultdict[bytes | None, list[int]](list)
    for key, event in events.read(events.events):
        told[key].append(event["version"])
    for crm_id, versions in told.items():
        first_told = list(dict.fromkeys(versions))
        assert first_told == list(range(1, crm.versions[(crm_id or b"").decode()] + 1))
    assert crm.customers["C00001"]["phone"] == f"phone {sent - 1}"
