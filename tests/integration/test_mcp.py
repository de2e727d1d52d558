"""The MCP server, as the SDK's own client meets it: a process of its own on standard input and output."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from syncd.core.errors import UserError
from syncd.core.values import Millis
from syncd.mcp_server import PLAN_MS, Plans
from tests.integration.conftest import Shell
from tests.parts.world import SYNCD, http

CUSTOMER = "300001"
WRITES = {"order", "cancel_order", "change_seats", "undo", "release_order", "approve"}
PREMIUM = {"product": "901", "sku": "CFQ7TTC0LCHC", "plan": "P1M", "quantity": 3}


class Talk:
    """What an assistant says and hears."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def tools(self) -> dict[str, Any]:
        return {tool.name: tool for tool in (await self._client.list_tools()).tools}

    async def call(self, tool: str, **arguments: Any) -> Any:
        said = await self._client.call_tool(tool, arguments)
        assert not said.is_error, said.content
        return said.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        said = await self._client.call_tool(tool, arguments)
        assert said.is_error, said.structured_content
        return json.dumps([part.model_dump() for part in said.content], ensure_ascii=False)


@asynccontextmanager
async def assistant(shell: Shell, *flags: str) -> AsyncIterator[Talk]:
    shell.run("db", "upgrade")
    server = StdioServerParameters(command=str(SYNCD), args=["mcp", *flags], env=shell.environ)
    async with Client(stdio_client(server)) as client:
        yield Talk(client)


def orders(shell: Shell) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http("GET", f"{shell.ion.url}/_sim/shop")["orders"]
    return found


async def test_an_assistant_looks_at_everything_and_writes_nothing(shell: Shell) -> None:
    async with assistant(shell) as talk:
        tools = await talk.tools()
        assert len(tools) == 16
        assert {name for name, tool in tools.items() if not tool.annotations.read_only_hint} == WRITES
        assert all(tool.description for tool in tools.values())
        assert (await talk.call("status"))["budget_limit"] >= 0
        customers = (await talk.call("ion_list", what="customers", limit=3))["rows"]
        assert [row["id"] for row in customers] == ["300001", "300002", "300003"]
        assert (await talk.call("ion_get", what="customers", id=CUSTOMER))["found"]
        for empty in ("conflicts", "waiting", "incoming_orders"):
            assert (await talk.call(empty))["rows"] == []
        assert "there is no snapshot yet" in await talk.refused("licences")
        assert "nothing is known of C1" in await talk.refused("explain_customer", customer="C1")
        assert (await talk.call("find_customers", text="nobody"))["rows"] == []
        assert (await talk.call("pending_writes"))["changes"] == []
        asked = {
            "order": {"customer": CUSTOMER, "items": [PREMIUM]},
            "cancel_order": {"customer": CUSTOMER, "order": "1"},
            "change_seats": {"customer": CUSTOMER, "subscription": "1", "quantity": 2},
            "undo": {"conflict": "x"},
            "release_order": {"order": "SO-1"},
            "approve": {"digest": "x"},
        }
        assert asked.keys() == WRITES
        for tool, arguments in asked.items():
            assert "started read-only" in await talk.refused(tool, **arguments)
    assert orders(shell) == []


async def test_a_write_is_planned_and_sent_once_when_it_is_approved(shell: Shell) -> None:
    async with assistant(shell, "--allow-writes") as talk:
        plan = await talk.call("order", customer=CUSTOMER, items=[PREMIUM])
        assert orders(shell) == [], "a plan sends nothing"
        assert plan["costs"] == "not known"
        done = await talk.call("approve", digest=plan["digest"])
        assert (done["done"], len(orders(shell))) == ("a new order", 1)
        assert "there is no open plan" in await talk.refused("approve", digest=plan["digest"])
        subscription = http("GET", f"{shell.ion.url}/_sim/shop")["subscriptions"][0]
        named = {"customer": subscription["customer"], "subscription": subscription["id"]}
        plan = await talk.call("change_seats", **named, quantity=77)
        assert (int(plan["seats_are"]), plan["seats_become"]) == (subscription["seats"], 77)
        await talk.call("approve", digest=plan["digest"])
        assert http("GET", f"{shell.ion.url}/_sim/shop")["subscriptions"][0]["seats"] == 77
        if shell.dialect == "live":
            plan = await talk.call("cancel_order", customer=CUSTOMER, order=orders(shell)[0]["id"])
            await talk.call("approve", digest=plan["digest"])
            assert orders(shell)[0]["status"] == "CANCELED"
        else:
            assert "can't cancel an order" in await talk.refused("cancel_order", customer=CUSTOMER, order="1")
        for tool, arguments, sentence in (
            (
                "order",
                {"customer": CUSTOMER, "items": [{**PREMIUM, "quantity": 0}]},
                "quantity must be a whole number",
            ),
            ("order", {"customer": CUSTOMER, "items": [{**PREMIUM, "price": 1}]}, "an item has no price"),
            ("change_seats", {**named, "quantity": -1}, "quantity must be a whole number"),
            ("release_order", {"order": "SO-9"}, "the CRM has sent no order SO-9"),
            ("undo", {"conflict": "x"}, "x"),
        ):
            assert sentence in await talk.refused(tool, **arguments)
        plan = await talk.call("order", customer=CUSTOMER, items=[PREMIUM])
        assert shell.run("pause").code == 0
        before = len(orders(shell))
        assert "Writes are paused" in await talk.refused("approve", digest=plan["digest"])
        assert len(orders(shell)) == before


class At:
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        self.ms = 0

    def now(self) -> Millis:
        return Millis(self.ms)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


async def _nothing() -> None:
    """Carried out."""


def test_a_plan_holds_for_ten_minutes_and_once() -> None:
    clock = At()
    plans = Plans(clock)
    digests = [plans.add("this", {}, _nothing)["digest"] for _ in range(2)]
    assert len(set(digests)) == 2, "the same twice is two plans"
    clock.ms = PLAN_MS - 1
    assert plans.take(digests[0]).told == {"plan": "this"}
    clock.ms = PLAN_MS
    for digest in digests:
        with pytest.raises(UserError, match=f"there is no open plan {digest}"):
            plans.take(digest)


def test_a_plan_hides_what_may_be_a_password() -> None:
    attribute = {"name": "adminPassword", "value": "hunter2"}
    assert "hunter2" not in str(Plans(At()).add("this", {"body": {"attributes": [attribute]}}, _nothing))
