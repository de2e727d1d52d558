"""The HTTP sink against the simulated CRM over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from aiohttp import web

from syncd.app import machine_clock
from syncd.core.errors import DecideAgain, Rejected, SideError, SideUnavailable, Transient
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.values import Address, Field, Millis, Side, Subject
from syncd.crm.rest import RestSink
from syncd.engine.ports import Command
from syncd.mapping import load_mapping
from syncd.sim.crm import Crm, CrmOptions, CrmServer
from syncd.sim.ion import serve_app

UPDATE = Intent(
    "cmd-1",
    Subject("crm:C00001"),
    Side.CRM,
    Kind.UPDATE,
    {Field.COMPANY: "New", Field.ADDRESS: Address("1 Main", "", "Tampa", "FL", "33602"), Field.TITLE: None},
    {},
    IntentState.SENT,
    Millis(1),
    "C00001",
    "7",
)
CREATE = replace(UPDATE, id="cmd-2", kind=Kind.CREATE, crm_id=None)


@dataclass
class Rig:
    crm: Crm
    sink: RestSink

    async def deliver(self, intent: Intent):
        return await self.sink.deliver(Command(intent, Millis(1)))


def sink(url: str) -> RestSink:
    return RestSink(url, "token", load_mapping(None), machine_clock(), 2.0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    crm = Crm(CrmOptions(customers=1))
    runner, port = await serve_app(CrmServer(crm).app(), 0)
    async with sink(f"http://127.0.0.1:{port}") as rest:
        yield Rig(crm, rest)
    await runner.cleanup()


async def test_an_update_is_a_merge_patch_and_its_answer_what_the_crm_holds(rig: Rig) -> None:
    answer = await rig.deliver(UPDATE)
    assert answer.crm_id == "C00001"
    assert answer.values[Field.COMPANY] == "New"
    assert rig.crm.customers["C00001"]["address"]["city"] == "Tampa"
    assert rig.crm.customers["C00001"]["title"] is None


async def test_an_undo_does_not_overrule_an_edit_made_meanwhile(rig: Rig) -> None:
    was = rig.crm.customers["C00001"]["company"]
    undo = replace(UPDATE, kind=Kind.UNDO, set={Field.COMPANY: "Put back"}, expect={Field.COMPANY: was})
    rig.crm.change("C00001", {"company": "Newer still"})
    with pytest.raises(DecideAgain) as refused:
        await rig.deliver(undo)
    assert refused.value.answer.values[Field.COMPANY] == "Newer still"
    assert rig.crm.customers["C00001"]["company"] == "Newer still"
    rig.crm.change("C00001", {"company": was})
    await rig.deliver(undo)
    assert rig.crm.customers["C00001"]["company"] == "Put back"
    await rig.deliver(undo)


async def test_a_create_sent_twice_happens_once(rig: Rig) -> None:
    first, again = await rig.deliver(CREATE), await rig.deliver(CREATE)
    assert first.crm_id == again.crm_id
    assert len(rig.crm.customers) == 2


async def test_the_probe_counts_what_it_sees(rig: Rig) -> None:
    assert await rig.sink.probe() == 1


ANSWERS = [
    pytest.param(409, b"", DecideAgain, id="409"),
    pytest.param(412, b"", DecideAgain, id="412"),
    pytest.param(400, b"", Rejected, id="400"),
    pytest.param(404, b"", Rejected, id="404"),
    pytest.param(401, b"", SideUnavailable, id="401"),
    pytest.param(503, b"", SideUnavailable, id="503"),
    pytest.param(200, b"<html>", Transient, id="HTML"),
    pytest.param(200, b'{"company": 7}', Transient, id="a wrong type"),
]


@pytest.mark.parametrize(("status", "body", "error"), ANSWERS)
async def test_each_answer_says_what_to_do_next(status: int, body: bytes, error: type[SideError]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner, port = await serve_app(app, 0)
    async with sink(f"http://127.0.0.1:{port}") as rest:
        with pytest.raises(error):
            await rest.deliver(Command(UPDATE, Millis(1)))
    await runner.cleanup()


async def test_nobody_there_is_unavailable() -> None:
    async with sink("http://127.0.0.1:9") as rest:
        with pytest.raises(SideUnavailable):
            await rest.deliver(Command(UPDATE, Millis(1)))
