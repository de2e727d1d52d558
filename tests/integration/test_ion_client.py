"""The ION client against the simulated ION over real sockets, in both dialects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest

from syncd.app import machine_clock
from syncd.core.budget import SPARE, Lane
from syncd.core.errors import (
    OutcomeUnknown,
    Rejected,
    SideError,
    SideUnavailable,
    Throttled,
    Transient,
    Unauthorised,
)
from syncd.core.policy import Dialect
from syncd.core.values import Address, Field, Millis
from syncd.engine.ports import Store
from syncd.ion.client import IonClient
from syncd.ion.gate import BudgetGate
from syncd.ion.oauth import Credentials, paste
from syncd.ion.wire import HttpWire
from syncd.sim.ion import Account, Fault, IonOptions, IonServer, serve_app
from syncd.store.memory import MemoryStore

VALUES = {
    Field.COMPANY: "Acme",
    Field.EMAIL: "a@acme.example",
    Field.COUNTRY: "US",
    Field.PHONE: "+18135550142",
    Field.ADDRESS: Address("1 Main", "", "Tampa", "FL", "33602"),
    Field.CONTACT: "Ann",
    Field.LANGUAGE: "EN",
}

LATER = Millis(2**62)


class Rig:
    def __init__(self, account: Account, url: str, store: Store, wire: HttpWire) -> None:
        self.account, self.url, self.store, self.wire = account, url, store, wire
        self.clock = machine_clock()

    def client(self, **options: Any) -> nullcontext[IonClient]:
        return nullcontext(self.new_client(**options))

    def new_client(self, *, token: str = "initial-refresh-token", limit: int = 5_000, **options: Any) -> IonClient:
        gate = BudgetGate(self.store, self.clock, limit, 10_000)
        defaults: dict[str, Any] = {"dialect": None, "page_size": None, "account": "20481"}
        credentials = Credentials(token, options.pop("access", None))
        return IonClient(
            url=options.pop("url", self.url),
            credentials=credentials,
            wire=self.wire,
            store=self.store,
            gate=gate,
            clock=self.clock,
            owner=options.pop("owner", "me"),
            **{**defaults, **options},
        )

    async def paste(self, refresh: str) -> None:
        async with self.store.begin() as unit:
            await paste(Credentials(None), unit, refresh, self.clock.now())

    def fault(self, kind: str, operation: str = "*", **more: Any) -> None:
        self.account.faults.append(Fault(kind, operation, **more))

    def calls(self, operation: str) -> int:
        return sum(entry.get("operation") == operation for entry in self.account.journal)


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[Rig]:
    account = Account(IonOptions(**{"customers": 25, "calls_per_minute": 5_000, **options}))
    runner, port = await serve_app(IonServer(account).app(), 0)
    try:
        async with HttpWire(1.0) as wire:
            yield Rig(account, f"http://127.0.0.1:{port}", MemoryStore(), wire)
    finally:
        await runner.cleanup()


async def listed(client: IonClient) -> list[str]:
    return [reading.ion_id async for page in client.list_customers(Lane.SWEEP) for reading in page.readings]


@pytest.fixture(params=["live", "seed"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_the_dialect_is_found_and_remembered(dialect: str) -> None:
    async with rig(dialect=dialect) as world:
        async with world.client() as client:
            assert await client.known_dialect() is None
            assert len(await listed(client)) == 25
            assert await client.known_dialect() is Dialect(dialect)
        assert await world.new_client().known_dialect() is Dialect(dialect)


async def test_the_largest_page_that_the_server_takes_is_found_and_remembered(dialect: str) -> None:
    async with rig(dialect=dialect, max_page_size=10) as world:
        async with world.client() as client:
            assert len(set(await listed(client))) == 25
        before = world.calls("list")
        async with world.client() as client:
            assert len(set(await listed(client))) == 25
        assert world.calls("list") - before == 3


async def test_an_empty_account_lists_nothing(dialect: str) -> None:
    async with rig(dialect=dialect, customers=0, empty_list_is_bare=True) as world, world.client() as client:
        assert await listed(client) == []


async def test_a_customer_is_created_read_found_and_updated(dialect: str) -> None:
    async with rig(dialect=dialect) as world, world.client() as client:
        await listed(client)
        async with client._gate.slots(Lane.WRITE, 4) as slots:
            created = await client.create(VALUES, slots, LATER)
            assert "password" not in str(created.raw)
            read = await client.get(created.ion_id, slots)
            assert read is not None
            assert read.values[Field.COMPANY] == "Acme"
            found = await client.find_by_email("A@Acme.example", slots)
            assert (found is None) is (dialect == "seed")
            if found is not None:
                assert [reading.ion_id for reading in found] == [created.ion_id]
            updated = await client.update(read, {Field.COMPANY: "Acme Two"}, slots, LATER)
            assert updated.values[Field.COMPANY] == "Acme Two"
            assert await client.get("999", slots) is None


@pytest.mark.parametrize("kind", ["html", "half-json", "empty", "reset-after", "timeout-after"])
async def test_a_write_whose_answer_is_lost_is_unknown_never_failed(dialect: str, kind: str) -> None:
    async with rig(dialect=dialect) as world, world.client() as client:
        await listed(client)
        world.fault(kind, "create")
        async with client._gate.slots(Lane.WRITE) as slots:
            with pytest.raises(OutcomeUnknown):
                await client.create(VALUES, slots, LATER)
        assert len(world.account.customers) == 26


REFUSALS = [
    pytest.param({Field.COMPANY: None}, Rejected, id="what ION requires is missing"),
    pytest.param({Field.EMAIL: "taken"}, Rejected, id="the e-mail is taken"),
]


@pytest.mark.parametrize(("change", "error"), REFUSALS)
async def test_ion_refuses_a_customer(dialect: str, change: dict[Field, Any], error: type[SideError]) -> None:
    async with rig(dialect=dialect) as world, world.client() as client:
        await listed(client)
        taken = next(iter(world.account.customers.values()))["email"]
        change = {name: taken if value == "taken" else value for name, value in change.items()}
        async with client._gate.slots(Lane.WRITE) as slots:
            with pytest.raises(error) as caught:
                await client.create({**VALUES, **change}, slots, LATER)
        if taken in change.values():
            assert isinstance(caught.value, Rejected)
            assert caught.value.taken_email


LIST_FAULTS = [
    pytest.param("html", Transient, id="HTML"),
    pytest.param("half-json", Transient, id="half a JSON"),
    pytest.param("timeout-before", Transient, id="no answer"),
    pytest.param("reset-before", Transient, id="a reset"),
    pytest.param("status", SideUnavailable, id="500"),
]


@pytest.mark.parametrize(("kind", "error"), LIST_FAULTS)
async def test_a_page_that_cannot_be_read_ends_the_listing(dialect: str, kind: str, error: type[SideError]) -> None:
    async with rig(dialect=dialect) as world, world.client(page_size=10, dialect=Dialect(dialect)) as client:
        world.fault(kind, "list", skip=1)
        with pytest.raises(error):
            await listed(client)


async def test_401_in_the_middle_of_a_listing_takes_one_new_token_and_goes_on(dialect: str) -> None:
    async with rig(dialect=dialect) as world, world.client(page_size=10) as client:
        world.fault("unauthorised", "list", skip=1)
        assert len(set(await listed(client))) == 25
        assert world.account.refreshes == 2


@pytest.mark.parametrize(("header", "wait"), [("3", 3_000), (None, None)])
async def test_429_closes_the_door_for_everyone(header: str | None, wait: int | None) -> None:
    async with rig() as world, world.client() as client:
        world.fault("status", "list", code=429, retry_after=header)
        with pytest.raises(Throttled) as caught:
            await listed(client)
        assert caught.value.wait_ms == wait
        ledger = await client._gate.ledger()
        assert ledger.closed_until > world.clock.now() + (wait or 10_000) - 1_500
        assert ledger.rate == 2_500


async def test_a_configured_dialect_that_ion_does_not_speak_is_said() -> None:
    async with rig(dialect="seed") as world, world.client(dialect=Dialect.LIVE) as client:
        with pytest.raises(Transient, match="SYNCD_ION__DIALECT"):
            await listed(client)


async def test_nobody_listening_is_unavailable_not_unknown() -> None:
    async with rig() as world, world.client() as client:
        await listed(client)
        async with world.client(url="http://127.0.0.1:9") as lost, lost._gate.slots(Lane.WRITE) as slots:
            with pytest.raises(SideUnavailable):
                await lost.create(VALUES, slots, LATER)


class TestCustody:
    async def test_the_token_rotates_and_the_new_one_is_durable(self) -> None:
        async with rig() as world:
            async with world.client() as client:
                await listed(client)
                world.account.access_tokens.clear()
                await listed(client)
            async with world.client() as restarted:
                world.account.access_tokens.clear()
                await listed(restarted)
            assert world.account.refreshes == 3

    async def test_two_that_refresh_at_once_burn_one_token(self) -> None:
        async with rig() as world, world.client(owner="a") as one, world.client(owner="b") as two:
            await asyncio.gather(one.custody.bearer(), two.custody.bearer(), one.custody.bearer())
            assert world.account.refreshes == 1

    async def test_who_still_has_the_token_that_another_replaced_takes_the_new_one(self) -> None:
        async with rig() as world, world.client(owner="a") as one, world.client(owner="b") as two:
            await listed(one)
            await listed(two)
            world.account.access_tokens.clear()
            await listed(one)
            assert len(await listed(two)) == 25
            assert world.account.refreshes == 2
            assert sum(entry["status"] == 401 for entry in world.account.journal) == 2, "one each, and no more"

    async def test_a_dead_token_is_said_once_and_not_retried(self) -> None:
        async with rig() as world, world.client(token="dead") as client:
            for _ in range(3):
                with pytest.raises(Unauthorised, match="syncd token set"):
                    await listed(client)
            assert world.calls("token") == 1

    async def test_a_pasted_token_brings_it_back(self) -> None:
        async with rig() as world, world.client(token="dead") as client:
            with pytest.raises(Unauthorised):
                await listed(client)
            await world.paste("initial-refresh-token")
            assert len(await listed(client)) == 25

    async def test_another_configured_token_brings_it_back_too(self) -> None:
        async with rig() as world:
            async with world.client(token="dead") as client:
                with pytest.raises(Unauthorised):
                    await listed(client)
            async with world.client() as client:
                assert len(await listed(client)) == 25

    async def test_a_configured_access_token_serves_at_the_start(self) -> None:
        async with rig() as world:
            granted = world.account.grant("initial-refresh-token")
            assert granted is not None
            async with world.client(token=granted["refresh_token"], access=granted["access_token"]) as client:
                await listed(client)
            assert world.account.refreshes == 1

    async def test_work_goes_on_with_the_access_token_after_a_refusal(self) -> None:
        async with rig(access_seconds=4) as world, world.client() as client:
            await listed(client)
            world.account.refresh_tokens.clear()
            await asyncio.sleep(2.1)
            await client.custody.refresh_ahead()
            assert len(await listed(client)) == 25

    async def test_it_is_refreshed_while_half_its_life_is_left(self) -> None:
        async with rig(access_seconds=4) as world, world.client() as client:
            await listed(client)
            await client.custody.refresh_ahead()
            assert world.account.refreshes == 1
            await asyncio.sleep(2.1)
            await client.custody.refresh_ahead()
            assert world.account.refreshes == 2

    async def test_a_token_endpoint_that_is_down_burns_nothing(self) -> None:
        async with rig() as world, world.client() as client:
            world.fault("status", "token", code=503)
            with pytest.raises(SideUnavailable):
                await listed(client)
            assert len(await listed(client)) == 25

    async def test_no_token_at_all_says_what_to_do(self) -> None:
        async with rig() as world, world.client(token="") as client:
            client.custody._configured = Credentials(None)
            with pytest.raises(Unauthorised, match="SYNCD_ION__REFRESH_TOKEN"):
                await listed(client)


async def test_the_budget_is_never_overrun_and_never_wasted() -> None:
    """60 calls wanted, 40 a minute allowed: the server sees no more, and no fewer but for the spare ones."""
    async with rig(calls_per_minute=40) as world, world.client(limit=40, page_size=1000) as client:
        tasks = [asyncio.create_task(listed(client)) for _ in range(60)]
        await asyncio.sleep(3)
        assert world.account.busiest_minute() == 40 - SPARE
        async with asyncio.timeout(3), client._gate.slots(Lane.WRITE, SPARE, goes_first=True) as slots:
            await client.get(next(iter(world.account.customers)), slots)
            await client.get(next(iter(world.account.customers)), slots)
        assert world.account.busiest_minute() == 40
        assert not [entry for entry in world.account.journal if entry["status"] == 429]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TestCustodyUnderAttack:
    """A dropped answer is a lost connection: what could drop it."""

    async def test_whoever_stops_waiting_the_refresh_is_carried_to_its_end(self) -> None:
        async with rig() as world, world.client() as client:
            world.fault("slow", "token", seconds=0.5)
            waiting = asyncio.create_task(client.custody.bearer())
            await asyncio.sleep(0.2)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await client.custody.drain()
            assert world.account.refreshes == 1
            assert len(await listed(client)) == 25
            assert world.account.refreshes == 1, "the answer was kept though nobody waited for it"

    async def test_a_token_pasted_during_a_refused_refresh_is_kept(self) -> None:
        async with rig() as world, world.client(token="dead") as client:
            world.fault("slow", "token", seconds=0.5)
            waiting = asyncio.create_task(client.custody.bearer())
            await asyncio.sleep(0.2)
            await world.paste("initial-refresh-token")
            await asyncio.gather(waiting, return_exceptions=True)
            assert len(await listed(client)) == 25

    @pytest.mark.parametrize("code", [403, 404, 408, 302])
    async def test_an_odd_answer_is_not_a_refusal(self, code: int) -> None:
        async with rig() as world, world.client() as client:
            world.fault("status", "token", code=code)
            with pytest.raises(SideError):
                await listed(client)
            assert len(await listed(client)) == 25

    async def test_all_slots_in_use_do_not_lock_out_the_token(self) -> None:
        async with rig(calls_per_minute=3) as world, world.client(limit=3) as client:
            done, waiting = await asyncio.wait([asyncio.create_task(listed(client)) for _ in range(3)], timeout=3)
            assert world.account.refreshes == 1
            for task in waiting:
                task.cancel()
            await asyncio.gather(*done, *waiting, return_exceptions=True)
            assert world.account.busiest_minute() == 3
