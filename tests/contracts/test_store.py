"""What every store promises: one suite over SQLite, PostgreSQL and the twin in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from random import Random

import pytest
from sqlalchemy import text

from syncd.core.budget import Lane, new_ledger, take
from syncd.core.catalogue import Offer, OfferKey, Price, Product
from syncd.core.crowd import Crowd, Turn
from syncd.core.errors import LostLease, StoreConflict
from syncd.core.guard import GuardState, Tally
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.licences import Contract, Drift, DriftKind, Roll, Snapshot, Subscription
from syncd.core.likeness import Evidence
from syncd.core.link import How, Link, LinkState, Spelling
from syncd.core.listing import SweepOutcome
from syncd.core.match import Candidate, Tier
from syncd.core.order import Item, Order, OrderState
from syncd.core.plan import Change, ChangeKind, ChangeState
from syncd.core.record import ION_NOTE, Observation, Position, Reading, Record, Stamp, new_record, observe
from syncd.core.values import Address, CrmId, Field, IonId, Millis, Side, Subject
from syncd.core.verify import Divergence, Standing
from syncd.core.work import (
    FOR_GUARD,
    STEERED,
    Again,
    Claim,
    Conflict,
    DeadLetter,
    DecisionEntry,
    Erased,
    Hold,
    HoldKind,
    Message,
    Stage,
    Sweep,
    Tokens,
)
from syncd.engine.ports import Loop, Store, Unit
from syncd.store import schema
from syncd.store.memory import MemoryStore
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore, make_engine

KEY = "7M_p2bXJ3yqJxZr1CwJ2c1pY1Jw2b3m1rY0e8yVqLQ4="
NOW = Millis(1_000_000)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(Random(1))
        return
    engine = make_engine(request.getfixturevalue(f"{request.param}_url"))
    await schema.upgrade(engine)
    yield SqlStore(engine, Seal([KEY]), Random(1))
    await engine.dispose()


def a_reading(ion_id: str, asked: Millis) -> Reading:
    values = {Field.COMPANY: "Harbour Lights", Field.ADDRESS: Address("1 Quay", city="Porto")}
    raw = {"id": ion_id, "companyName": "Harbour Lights", "unknown": [1, {"to": "us"}]}
    return Reading(ion_id, values, asked, Millis(asked + 9), None, raw, Millis(5))


def customer(side: Side, number: str, at: int = 1, **values: object) -> Record:
    seen = Observation(side, number, values, Position(None, Millis(at), 0), True)  # type: ignore[arg-type]
    return observe(new_record(side, number), [seen])


LINK = Link(
    CrmId("C1"),
    IonId("7"),
    LinkState.LINKED,
    How.CRM_NOTE,
    NOW,
    {Field.COMPANY: "Acme", Field.ADDRESS: Address("1 Main", "", "Tampa", "FL", "33602"), Field.PHONE: None},
    {(Side.ION, Field.COMPANY): Spelling("Acme", "ACME")},
    Millis(5),
    frozenset({Field.TITLE}),
    Millis(6),
)


def intent(number: str = "i1", **changes: object) -> Intent:
    whole = Intent(
        number,
        Subject("crm:C1"),
        Side.CRM,
        Kind.UPDATE,
        {Field.COMPANY: "New"},
        {Field.COMPANY: None},
        IntentState.PREPARED,
        NOW,
    )
    return replace(
        whole, **{"crm_id": "C1", "ion_id": "7", "why": {"company": {"rule": "tie"}}, "changed_at": NOW, **changes}
    )  # type: ignore[arg-type]


async def claimed(unit: Unit, stage: Stage = Stage.DECIDE, now: int = NOW) -> list[Claim]:
    return await unit.claim(stage, Millis(now), 15_000, 10)


async def test_the_store_tells_the_time_of_the_moment(store: Store) -> None:
    async with store.begin() as unit:
        first = await unit.time()
        await asyncio.sleep(0.02)
        assert 15 <= await unit.time() - first < 5_000, "of the moment, not of the transaction's start"
    assert abs(first - time.time() * 1000) < 5_000


async def fall_silent(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_ledger(new_ledger(30, 1_000))
        await asyncio.sleep(0.6)
        await unit.ledger()


async def test_a_unit_that_fell_silent_lets_go_of_what_it_holds(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.store.sql.SILENT_MS", 200)
    engine = make_engine(postgres_url)
    await schema.upgrade(engine)
    store = SqlStore(engine, Seal([KEY]), Random(1))
    try:
        with pytest.raises(Exception, match=r"idle-in-transaction|closed"):
            await fall_silent(store)
        async with asyncio.timeout(5), store.begin() as unit:
            assert await unit.ledger() is None
    finally:
        await engine.dispose()


async def test_one_customer_in_other_hands_keeps_no_lease_from_being_renewed(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    await schema.upgrade(engine)
    store = SqlStore(engine, Seal([KEY]), Random(1))
    try:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1"), Subject("crm:2")], NOW)
            claims = await claimed(unit)
        async with store.begin() as busy, asyncio.timeout(5):
            await busy.reserve([Subject("crm:1")])
            async with store.begin() as unit:
                await unit.renew(claims, Millis(NOW + 40_000))
        async with store.begin() as unit:
            assert [claim.subject for claim in await claimed(unit, now=NOW + 39_999)] == ["crm:1"]
    finally:
        await engine.dispose()


async def test_another_process_is_rung_for_what_it_has_to_do(postgres_url: str) -> None:
    engines = make_engine(postgres_url), make_engine(postgres_url)
    await schema.upgrade(engines[0])
    mine, theirs = (SqlStore(engine, Seal([KEY]), Random(1)) for engine in engines)
    rung: asyncio.Queue[Loop] = asyncio.Queue()
    listening = asyncio.create_task(theirs.listen(rung.put_nowait))
    try:
        async with asyncio.timeout(10):
            while rung.empty():  # it takes a moment until it listens
                async with mine.begin() as unit:
                    await unit.enqueue([Subject("crm:C1")], NOW)
                await asyncio.sleep(0.05)
            assert rung.get_nowait() is Loop.DECIDE
            async with mine.begin() as unit:
                await unit.save_intent(intent(), deliver_at=NOW)
                await unit.post([Message("t", b"k", b"v")])
            heard = {await rung.get()}
            while heard < {Loop.SEND_COMMANDS, Loop.SEND_MESSAGES}:
                heard.add(await rung.get())
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        for engine in engines:
            await engine.dispose()


async def test_records_come_back_as_they_were_stored(store: Store) -> None:
    record = replace(
        customer(Side.ION, "7", company="Ácme", address=Address(city="Tampa"), phone=None),
        written_until=Millis(4),
        modified=Millis(5),
        own_modified=Millis(6),
        missing_sweeps=2,
        created=Millis(7),
    )
    async with store.begin() as unit:
        await unit.save_records([record])
    async with store.begin() as unit:
        found = await unit.records(Side.ION, ["7", "8"])
        assert list(found) == ["7"]
        assert replace(found["7"], row_version=0) == record
        assert await unit.records(Side.CRM, ["7"]) == {}
        await unit.save_records([replace(found["7"], missing_sweeps=0)])
    async with store.begin() as unit:
        assert (await unit.records(Side.ION, ["7"]))["7"].missing_sweeps == 0


async def test_a_new_record_stored_twice_is_a_conflict_not_an_overwrite(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_records([customer(Side.CRM, "C1", company="A")])
    with pytest.raises(StoreConflict):
        async with store.begin() as unit:
            await unit.save_records([customer(Side.CRM, "C1", company="B")])


async def test_a_unit_that_fails_leaves_nothing_behind(store: Store) -> None:
    async def fail() -> None:
        async with store.begin() as unit:
            await unit.save_records([customer(Side.CRM, "C1", company="A")])
            await unit.save_offsets("t", {0: 5}, {})
            await unit.enqueue([Subject("crm:C1")], NOW)
            await unit.save_link(LINK)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail()
    async with store.begin() as unit:
        assert await unit.records(Side.CRM, ["C1"]) == {}
        assert await unit.offsets("t") == {}
        assert await claimed(unit) == []
        assert await unit.links(Side.CRM, ["C1"]) == {}


async def test_look_alikes_share_a_key_and_are_unlinked(store: Store) -> None:
    acme = {"company": "ACME  Ltd", "email": "A@acme.example", "country": "US"}
    async with store.begin() as unit:
        await unit.save_records(
            [
                customer(Side.ION, "1", **acme),
                customer(Side.ION, "2", **{**acme, "email": "other@x.example"}),
                customer(Side.ION, "3", company="Else", email="e@x.example"),
                customer(Side.ION, "7", **acme),
                customer(Side.CRM, "C2", **acme, **{ION_NOTE: "3"}),
            ]
        )
        await unit.save_link(LINK)
    async with store.begin() as unit:
        alike = customer(Side.CRM, "C9", company="acme ltd", email="a@ACME.example")
        assert [r.customer_id for r in await unit.look_alikes(alike, Side.ION)] == ["1", "2"]
        noting = customer(Side.CRM, "C9", company="acme ltd", email="a@ACME.example", **{ION_NOTE: "3"})
        assert [r.customer_id for r in await unit.look_alikes(noting, Side.ION)] == ["1", "2", "3"]
        assert await unit.look_alikes(customer(Side.CRM, "C9"), Side.ION) == []
        assert [r.customer_id for r in await unit.look_alikes(customer(Side.ION, "3"), Side.CRM)] == ["C2"]


async def test_customers_are_found_by_id_and_by_a_part_of_their_name(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_records(
            [
                customer(Side.CRM, "C1", company="Quarry Works", email="ines@quarry.example"),
                customer(Side.CRM, "C2", company="100% Fruit_Bar", email="ida@fruit.example"),
                customer(Side.ION, "C2", company="Harbour", email="sam@harbour.example"),
            ]
        )
    async with store.begin() as unit:
        for text, found in {
            "QUARRY  w": ["C1"],
            "@fruit": ["C2"],
            "C2": ["C2", "C2"],
            "0% f": ["C2"],
            "t_b": ["C2"],
            "1__": [],
            "nobody": [],
            "Harbour": ["C2"],
        }.items():
            assert [record.customer_id for record in await unit.find(text, 10)] == found, text
        assert [record.customer_id for record in await unit.find("example", 2)] == ["C1", "C2"]
        await unit.save_records([customer(Side.ION, "works", company="Last of all")])
        assert [record.customer_id for record in await unit.find("works", 1)] == ["works"], "an id comes first"
        assert list(await unit.peek(Side.CRM, ["C1", "C9"])) == ["C1"]


async def test_neighbours_share_blocks_as_they_are_now(store: Store) -> None:
    async def near(unit: Unit, **values: object) -> list[str]:
        return [r.customer_id for r in await unit.neighbours(customer(Side.CRM, "C9", **values), Side.ION)]

    async with store.begin() as unit:
        await unit.save_records(
            [
                customer(Side.ION, "1", company="Northwind Traders LLC", email="info@northwind.example"),
                customer(Side.ION, "2", company="Northwind Bakery", email="b@x.example"),
                customer(Side.ION, "3", company="Southwind", email="s@s.example"),
                customer(Side.ION, "7", company="Northwind Linked", email="l@northwind.example"),
            ]
        )
        await unit.save_link(LINK)
    async with store.begin() as unit:
        assert await near(unit, company="The Northwind Traders", email="ann@northwind.example") == ["1", "2"]
        assert await near(unit, company="Elsewhere", email="e@gmail.com") == []
        known = (await unit.records(Side.ION, ["2", "3"]))["2"]
        renamed = Observation(Side.ION, "2", {"company": "Eastwind"}, Position(None, Millis(9), 0), True)
        await unit.save_records([observe(known, [renamed])])
    async with store.begin() as unit:
        assert await near(unit, company="Northwind", email="n@n.example") == ["1"]
        assert await near(unit, company="Eastwind Ltd", email="n@n.example") == ["2"]


async def test_who_was_linked_is_found_by_what_it_is_now(store: Store) -> None:
    async def near(unit: Unit, company: str) -> list[str]:
        mine = customer(Side.CRM, "C9", company=company, email="e@gmail.com")
        return [record.customer_id for record in await unit.neighbours(mine, Side.ION)]

    async with store.begin() as unit:
        await unit.save_records([customer(Side.ION, "7", company="Northwind"), customer(Side.CRM, "C1")])
        await unit.add_link(LINK)
    async with store.begin() as unit:
        renamed = Observation(Side.ION, "7", {"company": "Eastwind"}, Position(None, Millis(9), 0), True)
        await unit.save_records([observe((await unit.records(Side.ION, ["7"]))["7"], [renamed])])
    async with store.begin() as unit:
        assert await near(unit, "Eastwind Ltd") == [], "it is linked"
        await unit.drop_link(LINK.crm_id)
    async with store.begin() as unit:
        assert await near(unit, "Eastwind Ltd") == ["7"]
        assert await near(unit, "Northwind") == []


async def test_to_look_for_one_customer_is_not_to_go_through_all_links(postgres_url: str) -> None:
    """Of 100,000 who met for the first time, fewer were linked in each minute than in the one before."""
    engine, mine = (
        make_engine(postgres_url),
        customer(Side.CRM, "C", company="Northwind", email="n@northwind.example"),
    )
    await schema.upgrade(engine)
    async with SqlStore(engine, Seal([KEY])).begin() as unit:
        for number in range(2_000):
            await unit.add_link(replace(LINK, crm_id=CrmId(f"C{number}"), ion_id=IonId(str(number))))
            names = {"company": f"Northwind {number}", "email": f"{number}@northwind.example"}
            await unit.save_records([customer(Side.ION, str(number), **names)])
        await unit.save_records([customer(Side.ION, "free", company="Northwind", email="n@northwind.example")])
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    async with SqlStore(engine, Seal([KEY])).begin() as unit:
        assert [record.customer_id for record in await unit.look_alikes(mine, Side.ION)] == ["free"]
        assert [record.customer_id for record in await unit.neighbours(mine, Side.ION)] == ["free"]
        await unit.created_between(Millis(0), Millis(1))
        walked = text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'links'")
        assert (await unit._connection.execute(walked)).scalar_one() == 0
    await engine.dispose()


async def test_to_look_at_a_crowd_is_to_look_at_each_of_it_a_few_times(postgres_url: str) -> None:
    """PostgreSQL knows of times what it was a minute ago. It took it that hardly anybody had been shown, and went
    through all who were for each of them: 3.6 s with 5,000, and an edit that goes before them waited as long."""
    engine, crowd, long_ago = make_engine(postgres_url), 400, Millis(NOW - 60_000)
    await schema.upgrade(engine)
    store = SqlStore(engine, Seal([KEY]))

    async def show_all(unit: Unit, now: Millis) -> None:
        await unit.keep_readings([a_reading(f"7-{number}", now) for number in range(crowd)], now)

    async with store.begin() as unit:
        for number in range(crowd):
            await unit.add_link(replace(LINK, crm_id=CrmId(f"C{number}"), ion_id=IonId(f"7-{number}")))
        await unit.enqueue([Subject(f"crm:C{number}") for number in range(crowd)], long_ago)
        for claim in await unit.claim(Stage.DECIDE, long_ago, 60_000, crowd):
            await unit.finish(claim, Again(long_ago, Stage.CALL))
        await show_all(unit, long_ago)
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    async with store.begin() as unit:
        await show_all(unit, NOW)
    later, turn = Millis(NOW + 1_000), Turn(NOW, Millis(NOW - 9_000), Millis(0))
    async with store.begin() as unit:
        assert await unit.crowd(turn, later, 2 * crowd) == Crowd(deciding=0, unshown=0, shown=crowd)
        assert len(await unit.claim(Stage.CALL, later, 1_000, 4, turn)) == 4
        walked = text("SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables")
        # Versions of a row that are over are counted too, and each has had five.
        assert (await unit._connection.execute(walked)).scalar_one() < 20 * crowd
    await engine.dispose()


async def test_who_was_rejected_is_remembered_by_both(store: Store) -> None:
    mine, theirs = customer(Side.CRM, "C1"), customer(Side.ION, "7")
    async with store.begin() as unit:
        await unit.reject("C1", "7")
        await unit.reject("C1", "7")
        await unit.reject("C1", "8")
        assert await unit.rejected(mine) == {"7", "8"}
        assert await unit.rejected(theirs) == {"C1"}
        await unit.unreject("C1", "7")
    async with store.begin() as unit:
        assert await unit.rejected(mine) == {"8"}
        assert await unit.rejected(theirs) == set()


async def test_a_link_that_is_dropped_is_gone(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_link(LINK)
        await unit.drop_link("C1")
    async with store.begin() as unit:
        assert await unit.links(Side.ION, ["7"]) == {}


async def test_a_customer_that_was_not_listed_is_counted_never_deleted(store: Store) -> None:
    async with store.begin() as unit:
        written = replace(customer(Side.ION, "3", company="C"), written_until=Millis(900))
        await unit.save_records([customer(Side.ION, "1", company="A"), customer(Side.ION, "2", company="B"), written])
    async with store.begin() as unit:
        assert await unit.note_missing({"1"}, Millis(500)) == []
    async with store.begin() as unit:
        found = await unit.records(Side.ION, ["1", "2", "3"])
        counts = {key: record.missing_sweeps for key, record in found.items()}
        assert counts == {"1": 0, "2": 1, "3": 0}, "what we wrote meanwhile is not missing"
    async with store.begin() as unit:
        assert await unit.note_missing({"1"}, Millis(500)) == []
        assert await unit.note_missing({"1"}, Millis(500)) == ["2"], "missed often enough to ask"
        assert await unit.note_missing({"1"}, Millis(500)) == [], "and asked about once"


async def test_all_are_counted_however_many_are_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.store.sql.PAGE", 2)
    numbers = [str(number) for number in range(7)]
    async with store.begin() as unit:
        await unit.save_records([customer(Side.ION, number, company=f"Company {number}") for number in numbers])
    for _ in range(2):
        async with store.begin() as unit:
            assert await unit.note_missing({"3"}, Millis(500)) == []
    async with store.begin() as unit:
        due = await unit.note_missing({"3"}, Millis(500))
        assert due == [number for number in numbers if number != "3"]
        assert (await unit.records(Side.ION, ["3"]))["3"].missing_sweeps == 0


async def test_unlinked_customers_are_found_by_when_ion_made_them(store: Store) -> None:
    def made(number: str, at: int) -> Record:
        return replace(customer(Side.ION, number, company="A"), created=Millis(at))

    async with store.begin() as unit:
        await unit.save_records([made("1", 4), made("2", 5), made("3", 9), made("4", 10), made("7", 6)])
        await unit.save_link(LINK)
        found = await unit.created_between(Millis(5), Millis(9))
        assert [record.customer_id for record in found] == ["2", "3"]


async def test_links_are_found_from_both_sides(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_link(LINK)
    async with store.begin() as unit:
        assert await unit.links(Side.CRM, ["C1", "C2"]) == {"C1": LINK}
        assert await unit.links(Side.ION, ["7"]) == {"7": LINK}
        await unit.save_link(replace(LINK, state=LinkState.DELETED_IN_CRM))
        assert await unit.count_links() == {LinkState.DELETED_IN_CRM: 1}
        assert await unit.list_links(LinkState.LINKED, "", 10) == []
        assert [link.crm_id for link in await unit.list_links(None, "", 10)] == ["C1"]
        assert await unit.list_links(None, "C1", 10) == []


@pytest.mark.parametrize("other", [{"crm_id": CrmId("C2")}, {"ion_id": IonId("8")}, {}])
async def test_a_new_link_takes_nobody_from_an_old_one(store: Store, other: dict) -> None:
    async with store.begin() as unit:
        await unit.add_link(LINK)
    with pytest.raises(StoreConflict):
        async with store.begin() as unit:
            await unit.add_link(replace(LINK, **other))
    async with store.begin() as unit:
        assert await unit.links(Side.CRM, ["C1"]) == {"C1": LINK}


async def test_a_link_is_one_to_one(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_link(LINK)
    with pytest.raises(StoreConflict):
        async with store.begin() as unit:
            await unit.save_link(replace(LINK, crm_id=CrmId("C2")))


async def test_intents_are_open_until_they_end(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_intent(intent(), deliver_at=NOW)
        await unit.save_intent(intent("i2", side=Side.ION, kind=Kind.CREATE, state=IntentState.SENT))
    async with store.begin() as unit:
        assert await unit.intents(["i1", "nope"]) == {"i1": intent()}
        assert {open_.id for open_ in await unit.open_intents(Subject("crm:C1"))} == {"i1", "i2"}
        assert [open_.id for open_ in await unit.open_creates(Side.ION)] == ["i2"]
        assert await unit.open_creates(Side.CRM) == []
        assert await unit.count_open_intents() == {
            (Side.CRM, IntentState.PREPARED): (1, NOW),
            (Side.ION, IntentState.SENT): (1, NOW),
        }
        await unit.save_intent(intent(state=IntentState.DROPPED, answer="why", answered={Field.PHONE: None}))
        assert (await unit.intents(["i1"]))["i1"].answered == {Field.PHONE: None}
        assert [open_.id for open_ in await unit.open_intents(Subject("crm:C1"))] == ["i2"]


async def test_commands_are_due_from_their_time_on(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_intent(intent(), deliver_at=Millis(NOW + 10))
        assert await unit.commands_due(Millis(NOW + 9), 10) == []
        assert await unit.next_command_due() == NOW + 10
        assert [due.id for due in await unit.commands_due(Millis(NOW + 10), 10)] == ["i1"]
        await unit.save_intent(intent(), deliver_at=None)
        assert await unit.next_command_due() is None
        assert await unit.commands_due(Millis(NOW + 99), 10) == []


async def test_conflicts_keep_both_values_and_both_intervals(store: Store) -> None:
    conflict = Conflict(
        "k", "C1", "7", Field.COMPANY, "tie", Side.CRM, "New", None, Stamp(Millis(1), Millis(2)), None, "i1", NOW
    )
    async with store.begin() as unit:
        await unit.archive([conflict, replace(conflict, id="l", crm_id="C2", at=Millis(NOW + 1))])
        await unit.archive([conflict])
    async with store.begin() as unit:
        assert [c.id for c in await unit.list_conflicts(None, None, 10)] == ["l", "k"]
        assert await unit.list_conflicts("C1", None, 10) == [conflict]
        assert await unit.conflict("k") == conflict
        assert await unit.conflict("j") is None
        assert [c.id for c in await unit.list_conflicts(None, Millis(NOW + 1), 10)] == ["k"]


async def test_the_log_takes_entries(store: Store) -> None:
    async with store.begin() as unit:
        linked = DecisionEntry(NOW, Subject("crm:C1"), "C1", "7", "linked", None, {"how": "person"})
        seen = DecisionEntry(NOW, Subject("ion:7"), None, "7", "create-decided", "i", {"set": {"title": None}})
        await unit.log([seen, replace(linked, crm_id="C2", ion_id="8")])
        await unit.log([linked])
        await unit.log([])
        assert await unit.story("C1", "7", 9) == [linked, seen], "the newest first"
        assert await unit.story("C1", None, 9) == [linked]
        assert await unit.story(None, "7", 1) == [linked]
        assert await unit.story(None, None, 9) == []


class TestTheQueue:
    async def test_a_customer_is_claimed_by_one(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1"), Subject("crm:1"), Subject("crm:2")], NOW)
            assert len(await claimed(unit)) == 2
            assert await claimed(unit) == []

    async def test_the_oldest_comes_first(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:new")], NOW)
            await unit.enqueue([Subject("crm:old")], Millis(NOW - 5))
            assert [claim.subject for claim in await claimed(unit)] == ["crm:old", "crm:new"]

    async def test_who_came_last_is_found_and_can_be_claimed_before_the_others(self, store: Store) -> None:
        now = Millis(NOW + 9)
        async with store.begin() as unit:
            for number in range(4):
                await unit.enqueue([Subject(f"crm:{number}")], Millis(NOW + number))
            await unit.enqueue([Subject("crm:later")], Millis(now + 1))
            [claim] = await unit.claim(Stage.DECIDE, now, 1_000, 9, only=[Subject("crm:3"), Subject("crm:nobody")])
            assert claim.subject == "crm:3"
            [other] = await unit.claim(Stage.DECIDE, now, 1_000, 1, only=[Subject("crm:1"), Subject("crm:2")])
            assert other.subject == "crm:1"
            await unit.finish(other, Again(now, Stage.CALL))
            last, before = await unit.newest(now, 2)
            assert last == (Subject("crm:2"), Stage.DECIDE, NOW + 2)
            assert before == (Subject("crm:1"), Stage.CALL, NOW + 1)
            assert await unit.claim(Stage.DECIDE, now, 1_000, 9, only=[]) == []

    async def test_who_is_looked_at_with_its_pair_is_queued_no_more_unless_somebody_is_at_it(
        self, store: Store
    ) -> None:
        free, busy = Subject("ion:7-1"), Subject("ion:7-2")
        async with store.begin() as unit:
            await unit.enqueue([free, busy], NOW)
            [claim] = await unit.claim(Stage.DECIDE, NOW, 1_000, 9, only=[busy])
            for subject in (free, busy, Subject("ion:nobody")):
                await unit.unqueue(subject, NOW)
            assert not await unit.is_queued(free)
            await unit.check(claim)

    async def test_a_crowd_waits_for_its_listing_and_the_others_do_not(self, store: Store) -> None:
        listed, now = NOW, Millis(NOW + 20_000)
        turn = Turn(listed, Millis(now - 10_000), Millis(0))
        async with store.begin() as unit:
            for crm_id in ("early", "new", "read", "old", "deciding"):
                await unit.add_link(replace(LINK, crm_id=CrmId(crm_id), ion_id=IonId(f"7-{crm_id}")))
            await unit.enqueue([Subject(f"crm:{name}") for name in ("new", "read", "old", "early", "create")], now)
            for claim in await unit.claim(Stage.DECIDE, now, 60_000, 9):
                due = Millis(listed - 1 if claim.subject == "crm:early" else now)
                await unit.finish(claim, Again(due, Stage.CALL))
            await unit.enqueue([Subject("crm:deciding"), Subject("crm:stranger")], now)
            await unit.keep_readings([a_reading("7-old", turn.fresh), a_reading("7-deciding", now)], now)
            await unit.keep_readings([a_reading("7-read", Millis(turn.fresh + 1)), a_reading("7-nobody", now)], now)
            assert await unit.crowd(turn, now, 9) == Crowd(deciding=1, unshown=2, shown=1)
            assert await unit.crowd(turn, now, 1) == Crowd(1, 1, 1)
            assert await unit.crowd(turn, listed, 9) == Crowd(0, 0, 0), "not due yet"
            [read] = await unit.claim(Stage.CALL, now, 1_000, 9, turn._replace(is_only_for_shown=True))
            assert read.subject == "crm:read"
            assert (await unit.crowd(turn, now, 9)).shown == 1, "still waiting for its slot"
            claims = await unit.claim(Stage.CALL, now, 1_000, 9, turn)
            assert sorted(claim.subject for claim in claims) == ["crm:create", "crm:early"]
            assert len(await unit.claim(Stage.CALL, now, 1_000, 9, turn._replace(late=now))) == 2
            assert (await unit.crowd(turn, now, 9)).unshown == 0, "somebody is at it"

    async def test_whom_a_page_has_shown_goes_before_those_who_came_first(self, store: Store) -> None:
        now = Millis(NOW + 20_000)
        async with store.begin() as unit:
            await unit.add_link(LINK)
            await unit.enqueue([Subject("crm:create")], NOW)
            await unit.enqueue([Subject(f"crm:{LINK.crm_id}")], now)
            for claim in await unit.claim(Stage.DECIDE, now, 60_000, 9):
                await unit.finish(claim, Again(now, Stage.CALL))
            await unit.keep_readings([a_reading(LINK.ion_id, now)], now)
            [first] = await unit.claim(Stage.CALL, Millis(now + 9), 1_000, 1, Turn(NOW, NOW, Millis(0)))
            assert first.subject == f"crm:{LINK.crm_id}"

    async def test_a_reading_lies_there_for_who_waits_until_it_is_old(self, store: Store) -> None:
        subject, reading = Subject(f"crm:{LINK.crm_id}"), a_reading(LINK.ion_id, NOW)
        async with store.begin() as unit:
            await unit.add_link(LINK)
            await unit.enqueue([subject], NOW)
            await unit.keep_readings([reading], Millis(NOW - 1))
            assert await unit.reading_of(subject) is None, "it is put off, perhaps for long"
            await unit.keep_readings([reading], NOW)
            assert await unit.reading_of(subject) == reading
            assert await unit.next_due(Stage.DECIDE) == NOW, "it may need no call"
            [claim] = await claimed(unit)
            await unit.keep_readings([reading._replace(asked=Millis(NOW + 1))], NOW)
            assert await unit.reading_of(subject) == reading, "somebody is at it"
            await unit.finish(claim, Again(NOW, Stage.CALL))
            await unit.keep_readings([reading._replace(asked=Millis(NOW - 1))], NOW)
            assert await unit.reading_of(subject) == reading, "an older one"
            newer = reading._replace(
                asked=Millis(NOW + 1), answered=Millis(NOW + 20), values={**reading.values, Field.TITLE: None}
            )
            await unit.keep_readings([newer], newer.answered)
            assert await unit.reading_of(subject) == newer
            assert await unit.next_due(Stage.CALL) == newer.answered, "waits anew"
            await unit.drop_readings(newer.asked)
            assert await unit.reading_of(subject) == newer
            await unit.drop_readings(Millis(newer.asked + 1))
            assert await unit.reading_of(subject) is None

    async def test_finished_means_gone(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1")], NOW)
            [claim] = await claimed(unit)
            await unit.finish(claim)
            assert await unit.next_due(Stage.DECIDE) is None

    async def test_put_off_means_due_later_and_perhaps_in_another_stage(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1")], NOW)
            [claim] = await claimed(unit)
            await unit.finish(claim, Again(Millis(NOW + 50), Stage.CALL, 3))
            assert await claimed(unit, Stage.CALL, NOW + 49) == []
            assert await unit.next_due(Stage.CALL) == NOW + 50
            [again] = await claimed(unit, Stage.CALL, NOW + 50)
            assert (again.attempts, again.since) == (3, claim.since)

    async def test_a_reason_that_comes_meanwhile_is_not_lost(self, store: Store) -> None:
        for again in (None, Again(Millis(NOW + 99_000), Stage.CALL)):
            async with store.begin() as unit:
                await unit.enqueue([Subject("crm:1")], NOW)
                [claim] = await claimed(unit)
                await unit.enqueue([Subject("crm:1")], Millis(NOW + 1))
                await unit.finish(claim, again)
                [look] = await claimed(unit, Stage.DECIDE, NOW + 1)
                await unit.finish(look)

    async def test_a_reason_that_came_meanwhile_is_told_as_soon_as_the_customer_is_free(self, store: Store) -> None:
        for again in (None, Again(NOW, Stage.CALL)):
            rung = list[Loop]()
            async with store.begin() as unit:
                await unit.enqueue([Subject("crm:1")], NOW)
                [claim] = await claimed(unit)
                await unit.enqueue([Subject("crm:1")], Millis(NOW + 1))
            listening = asyncio.create_task(store.listen(rung.append))
            await asyncio.sleep(0.3)
            rung.clear()
            async with store.begin() as unit:
                await unit.finish(claim, again)
            assert Loop.DECIDE in rung, "who was told before found it in somebody's hands"
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            async with store.begin() as unit:
                [look] = await claimed(unit, Stage.DECIDE, NOW + 1)
                await unit.finish(look)

    async def test_a_lease_that_ran_out_is_taken_over_and_its_holder_changes_nothing(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1")], NOW)
            [late] = await claimed(unit)
            [other] = await claimed(unit, now=NOW + 15_000)
            assert late.fence != other.fence
            with pytest.raises(LostLease):
                await unit.check(late)
            with pytest.raises(LostLease):
                await unit.finish(late)
            await unit.check(other)

    async def test_a_renewed_lease_lasts(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1")], NOW)
            [claim] = await claimed(unit)
            await unit.renew([claim], Millis(NOW + 40_000))
            assert await claimed(unit, now=NOW + 39_999) == []
            assert await unit.next_due(Stage.DECIDE) == NOW + 40_000

    async def test_what_is_pending_is_counted_with_its_oldest(self, store: Store) -> None:
        async with store.begin() as unit:
            await unit.enqueue([Subject("crm:1")], NOW)
            await unit.enqueue([Subject("crm:2")], Millis(NOW + 5))
            assert await unit.pending() == {Stage.DECIDE: (2, NOW)}
            await unit.save_change(change("a", at=Millis(NOW - 3)))
            await unit.save_change(change("b", state=ChangeState.PASSED))
            assert await unit.pending() == {Stage.DECIDE: (2, NOW), FOR_GUARD: (1, NOW - 3)}


async def test_holds_and_candidates_wait_for_a_person(store: Store) -> None:
    hold = Hold(Subject("crm:1"), HoldKind.INCOMPLETE, "because", NOW, ("email",))
    why = (Evidence.SAME_DOMAIN, Evidence.OTHER_PHONE)
    candidates = [Candidate("1", "7", Tier.COMPANY_ONLY, why), Candidate("1", "8", Tier.EMAIL_ONLY)]
    async with store.begin() as unit:
        await unit.hold(hold)
        await unit.save_candidates(hold.subject, candidates)
    async with store.begin() as unit:
        assert await unit.list_holds(tuple(HoldKind), "", 5) == [hold]
        assert await unit.list_holds([HoldKind.REVIEW], "", 5) == []
        assert await unit.count_holds() == {HoldKind.INCOMPLETE: 1}
        assert await unit.holds_of(hold.subject) == [hold]
        await unit.hold(replace(hold, since=Millis(NOW + 5)))
        assert await unit.holds_of(hold.subject) == [hold], "since when it waits"
        later = replace(hold, reason="because of that", since=Millis(NOW + 5))
        await unit.hold(later)
        assert await unit.holds_of(hold.subject) == [later]
        await unit.hold(hold)
        assert await unit.holds_of(Subject("crm:2")) == []
        assert await unit.candidates(hold.subject) == candidates[::-1]
        await unit.release(hold.subject)
        assert await unit.list_holds(tuple(HoldKind), "", 5) == []
        assert await unit.candidates(hold.subject) == []


async def test_a_customer_may_wait_for_two_reasons_and_be_released_from_one(store: Store) -> None:
    frozen = Hold(Subject("crm:1"), HoldKind.FROZEN, "it flaps", NOW, ("title",))
    review = Hold(Subject("crm:1"), HoldKind.REVIEW, "which one?", NOW)
    async with store.begin() as unit:
        await unit.hold(frozen)
        await unit.hold(review)
        assert await unit.holds_of(frozen.subject) == [frozen, review]
        await unit.release(frozen.subject, [HoldKind.REVIEW])
        assert await unit.holds_of(frozen.subject) == [frozen]


def change(number: str, **changes: object) -> Change:
    whole = Change(
        number,
        Subject("crm:C1"),
        Side.ION,
        ChangeKind.UPDATE,
        {Field.COMPANY: "New", Field.PHONE: None},
        {Field.COMPANY: "Old", Field.PHONE: "1"},
        {Field.COMPANY: "Old", Field.PHONE: "1"},
        NOW,
        "C1",
        "7",
        {"company": {"rule": "only-crm-moved"}},
        "context",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


async def test_changes_wait_pass_and_are_counted_until_they_are_old(store: Store) -> None:
    other = change("b", subject=Subject("crm:C2"), crm_id="C2", kind=ChangeKind.CREATE, side=Side.CRM)
    async with store.begin() as unit:
        await unit.save_change(change("a"))
        await unit.save_change(other)
        await unit.save_change(change("c", kind=ChangeKind.LINK, set={}))
        await unit.save_change(change("c", kind=ChangeKind.LINK, set={}))
    async with store.begin() as unit:
        assert await unit.list_changes("", 9) == [change("a"), other, change("c", kind=ChangeKind.LINK, set={})]
        assert await unit.list_changes("a", 1) == [other]
        assert await unit.changes_of(Subject("crm:C2")) == [other]
        assert await unit.tally_changes(NOW) == {ChangeState.WAITING: Tally(1, 1, 1, 1)}
        assert await unit.count_changes((ChangeState.WAITING, ChangeState.PASSED), 2) == 2
        assert await unit.count_changes((ChangeState.PASSED,), 2) == 0
        assert await unit.pass_changes(["a"], "ann", Millis(NOW + 1)) == [Subject("crm:C1")]
        assert await unit.pass_changes(None, "", Millis(NOW + 1)) == [Subject("crm:C2"), Subject("crm:C1")]
        assert await unit.pass_changes(None, "", Millis(NOW + 2)) == []
        assert await unit.tally_changes(NOW) == {ChangeState.PASSED: Tally(1, 0, 0, 1)}, "by name is not counted"
        await unit.withdraw_passes()
        states = {found.id: (found.state, found.by) for found in await unit.list_changes("", 9)}
        assert states["a"] == (ChangeState.PASSED, "ann"), "what a person let go stays let go"
        assert states["b"] == (ChangeState.WAITING, "")
        await unit.save_change(replace(other, state=ChangeState.SPENT, at=NOW))
        await unit.drop_changes(["c"])
        assert await unit.tally_changes(Millis(NOW - 1)) == {ChangeState.SPENT: Tally(creates=1)}
        assert await unit.tally_changes(NOW) == {}
        await unit.forget_spent(Millis(NOW + 1))
        assert [found.id for found in await unit.list_changes("", 9)] == ["a"]


async def test_the_guard_remembers(store: Store) -> None:
    state = GuardState(NOW, "too many", Millis(5), "m1", "m2")
    async with store.begin() as unit:
        assert await unit.guard_state() == GuardState()
        await unit.save_guard_state(state)
    async with store.begin() as unit:
        assert await unit.guard_state() == state
        await unit.save_guard_state(GuardState(mapping="m2"))
        assert await unit.guard_state() == GuardState(mapping="m2")


async def test_the_undecided_are_counted_no_further_than_asked(store: Store) -> None:
    async with store.begin() as unit:
        await unit.enqueue([Subject(f"crm:{number}") for number in range(5)], NOW)
        assert await unit.undecided(NOW, NOW, 3) == 3
        assert await unit.undecided(NOW, NOW, 9) == 5
        assert await unit.undecided(NOW, Millis(NOW - 1), 9) == 0
        assert await unit.undecided(Millis(NOW - 1), NOW, 9) == 0
        [claim, *_] = await claimed(unit)
        await unit.finish(claim, Again(NOW, Stage.CALL))
        assert await unit.undecided(NOW, NOW, 9) == 4


async def test_commands_that_were_given_up_are_found_once_they_are_old(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_intent(intent("i1", changed_at=Millis(5), state=IntentState.UNKNOWN))
        await unit.save_intent(intent("i2", changed_at=Millis(9), state=IntentState.UNKNOWN))
        await unit.save_intent(intent("i3", changed_at=Millis(5), state=IntentState.UNKNOWN, side=Side.ION))
        await unit.save_intent(intent("i4", changed_at=Millis(5), state=IntentState.SENT))
        assert [found.id for found in await unit.unknown_commands(Millis(9))] == ["i1"]


async def test_recent_intents_are_those_that_changed_since(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_intent(intent("i1", changed_at=Millis(5)))
        await unit.save_intent(intent("i2", changed_at=Millis(9), state=IntentState.CONFIRMED))
        assert [found.id for found in await unit.recent_intents(Subject("crm:C1"), Millis(5))] == ["i2"]


async def test_offsets_are_kept_by_topic_and_partition(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_offsets("a", {0: 5, 1: 7}, {0: 9, 1: 7})
        assert await unit.places("a") == {0: range(5, 9), 1: range(7, 7)}
        await unit.save_offsets("a", {0: 6}, {})
        assert await unit.places("a") == {0: range(6, 9), 1: range(7, 7)}, "an end that is not said stays"
        await unit.save_offsets("a", {0: 10}, {})
        assert (await unit.places("a"))[0] == range(10, 10)
        await unit.save_offsets("a", {0: 6}, {0: 6})
        await unit.save_offsets("b", {0: 1}, {0: 3})
        assert await unit.places("b") == {0: range(1, 3)}
    async with store.begin() as unit:
        assert await unit.offsets("a") == {0: 6, 1: 7}


async def test_the_end_of_a_partition_that_was_not_read_only_moves_on(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_offsets("a", {0: 5, 1: 7}, {0: 5, 1: 7})
        await unit.save_offsets("a", {0: 6}, {0: 6, 1: 9, 2: 4})
        waiting = {0: range(6, 6), 1: range(7, 9)}
        assert await unit.places("a") == waiting, "a partition that nobody has taken over does not count"
        await unit.save_offsets("a", {}, {1: 8})
        assert await unit.places("a") == waiting
        assert await unit.offsets("a") == {0: 6, 1: 7}


async def test_a_product_is_kept_as_it_was_last_listed_and_its_prices_with_their_history(store: Store) -> None:
    key = OfferKey("S1", "P1M", 0)
    first = Product("901", "Suite", "Microsoft", None, (Offer(key, "Suite", Decimal("22.50"), "USD"),))
    other = Product("902", None, None, "Security", ())
    async with store.begin() as unit:
        await unit.save_products([first, other], Millis(1))
        await unit.add_prices([Price("901", key, Decimal("22.50"), "USD", Millis(1))])
    second = replace(first, name="Suite 2", offers=())
    async with store.begin() as unit:
        assert await unit.products(["901", "902", "903"]) == {"901": first, "902": other}
        await unit.save_products([second], Millis(2))
        await unit.add_prices([Price("901", key, None, None, Millis(2))])
    async with store.begin() as unit:
        assert await unit.list_products("", 10) == [second, other]
        assert await unit.list_products("901", 1) == [other]
        assert [(price.price, price.since) for price in await unit.prices_of("901")] == [
            (Decimal("22.50"), 1),
            (None, 2),
        ]
        assert await unit.prices_of("902") == []


async def test_licences_are_kept_as_they_were_last_listed_with_how_they_moved(store: Store) -> None:
    first = Subscription(
        "7", "301", "Suite", "Microsoft", "S1", 5, "active", Decimal("20.5"), None, "USD", "2026-06-01"
    )
    other = Subscription("8", "302", None, None, "S2", 0, "cancelled", is_listed=False)
    move = Drift(Millis(5), DriftKind.SEATS, first, 3)
    rolls = (Roll("Microsoft", "S1", "Suite", 1, 5, None, Decimal("102.5"), "USD"),)
    snapshots = [Snapshot(Millis(at), Millis(at + 1), 2, 5, 2, 1, 3, rolls) for at in (4, 9)]
    async with store.begin() as unit:
        await unit.save_subscriptions([first, other], Millis(1))
        await unit.add_drift([move, move._replace(kind=DriftKind.NEW, at=Millis(4))])
        for snapshot in snapshots:
            await unit.save_snapshot(snapshot)
        await unit.save_contracts([Contract("C2", "S1", 4), Contract("C1", "S1", 1), Contract("C1", "S1", 7)])
    async with store.begin() as unit:
        assert await unit.subscriptions(["7", "9"]) == {"7": first}
        assert await unit.list_subscriptions("", 10) == [first, other]
        assert await unit.list_subscriptions("7", 10) == [other]
        await unit.save_subscriptions([replace(first, seats=6)], Millis(2))
        assert (await unit.subscriptions(["7"]))["7"].seats == 6
        assert await unit.drift_after(Millis(4)) == [move]
        assert [one.at for one in await unit.drift_after(Millis(0))] == [4, 5]
        assert await unit.snapshots(1) == snapshots[1:]
        assert await unit.snapshots(5) == snapshots[::-1]
        assert await unit.contracts() == [Contract("C1", "S1", 7), Contract("C2", "S1", 4)]
        await unit.save_contracts([Contract("C1", "S1", 0), Contract("C3", "S1", 0)])
        assert await unit.contracts() == [Contract("C2", "S1", 4)]


async def test_an_order_is_kept_as_it_was_saved_and_found_when_its_time_has_come(store: Store) -> None:
    items = (Item("901", "S1", "P1M", 2, "77", {"adminPassword": "hunter2"}), Item("902", "", "", 1))
    first = Order("SO-1", "C1", items, OrderState.WAITING, Millis(5), Millis(6), Millis(70))
    full = replace(
        first, id="SO-2", state=OrderState.PLACED, due=Millis(60), reason="why", released_by="ann", tries=2,
        value=Decimal("22.50"), currency="USD", sent_at=Millis(8), ion_customer="3", ion_order="7", ion_status="NEW",
        not_it=("5", "6"),
    )  # fmt: skip
    over = replace(first, id="SO-3", state=OrderState.ENDED, due=None, ion_customer="3")
    async with store.begin() as unit:
        assert await unit.order("SO-1") is None
        assert (await unit.order_due(Millis(99)), await unit.next_order_due()) == (None, None)
        for order in (first, full, over):
            await unit.save_order(order)
    async with store.begin() as unit:
        assert [await unit.order(order.id) for order in (first, full, over)] == [first, full, over]
        assert await unit.order_due(Millis(59)) is None
        assert await unit.order_due(Millis(65)) == full
        assert await unit.order_due(Millis(99)) == first, "what ION has already comes last"
        assert await unit.next_order_due() == 60
        assert await unit.list_orders(None, "SO-1", 1) == [full]
        assert await unit.list_orders(OrderState.ENDED, "", 10) == [over]
        counts = await unit.count_orders()
        assert {state: count for state, count in counts.items() if count} == {
            OrderState.WAITING: 1, OrderState.PLACED: 1, OrderState.ENDED: 1,
        }  # fmt: skip
        assert await unit.ion_orders("3") == {"7"}
        await unit.save_order(replace(over, id="SO-4", customer="C2"))
        assert await unit.orders_of("C1") == [first, full, over]
        await unit.save_order(replace(full, due=None))
        assert await unit.next_order_due() == 70


async def test_messages_wait_until_they_are_taken_off(store: Store) -> None:
    async with store.begin() as unit:
        await unit.post([Message("t", b"k", b"v", (("h", b"x"),)), Message("t", None, None)])
    async with store.begin() as unit:
        first, second = await unit.posted(10)
        assert (first.key, first.value, first.headers, second.value) == (b"k", b"v", (("h", b"x"),), None)
        await unit.unpost([first.id])
        assert [message.id for message in await unit.posted(10)] == [second.id]
        assert await unit.posted(10, [second.topic]) == []


async def test_an_event_set_aside_twice_is_kept_once(store: Store) -> None:
    letter = DeadLetter("t", 1, 2, "bad", "why", NOW, b"\xff", None, (("h", b"\x00"),))
    async with store.begin() as unit:
        await unit.bury([letter])
        await unit.bury([letter, replace(letter, offset=3)])
    async with store.begin() as unit:
        newest, oldest = await unit.list_dead_letters(None, 10)
        assert replace(oldest, id=0) == letter
        assert await unit.list_dead_letters(newest.id, 10) == [oldest]
        assert await unit.dead_letter(oldest.id) == oldest
        assert await unit.dead_letter(99) is None


async def test_the_ledger_and_the_tokens_are_one_of_each(store: Store) -> None:
    ledger = take(new_ledger(30, 1000), Lane.SWEEP, 2, NOW).ledger
    refused = take(take(new_ledger(1, 1000), Lane.SWEEP, 1, NOW).ledger, Lane.WRITE, 1, NOW).ledger
    tokens = Tokens("a", "r", NOW, NOW, NOW, "seed", None, None)
    async with store.begin() as unit:
        assert await unit.ledger() is None
        assert await unit.tokens() is None
        for kept in (ledger, refused):
            await unit.save_ledger(kept)
            assert await unit.ledger() == kept
        for held in (tokens, replace(tokens, access=None, refresh=None, refused="dead", refreshing_since=NOW)):
            await unit.save_tokens(held)
            assert await unit.tokens() == held


async def test_sweeps_are_remembered_newest_first(store: Store) -> None:
    one = Sweep(Millis(1), Millis(2), 3, 4, 5, SweepOutcome.COMPLETE)
    two = replace(one, started=Millis(9), outcome=SweepOutcome.SHRUNK)
    async with store.begin() as unit:
        assert await unit.last_complete() is None
        await unit.save_sweep(one)
        await unit.save_sweep(two)
        assert await unit.last_complete() == one.started
        assert await unit.recent_sweeps(5) == [two, one]
        assert await unit.recent_sweeps(1) == [two]
        early = replace(one, started=Millis(20), is_early=True)
        await unit.save_sweep(early)
        await unit.save_sweep(replace(one, started=Millis(30), outcome=SweepOutcome.FAILED))
        await unit.save_sweep(replace(two, started=Millis(40), customers=0))
        assert await unit.measuring_sweeps(5) == [two, one]
        assert await unit.measuring_sweeps(1) == [two]
        assert early in await unit.recent_sweeps(5)


async def test_notes_are_kept(store: Store) -> None:
    async with store.begin() as unit:
        assert await unit.note("x") is None
        await unit.save_note("x", "1")
        await unit.save_note("x", "2")
        assert await unit.note("x") == "2"


async def test_a_named_lease_has_one_owner_until_it_runs_out(store: Store) -> None:
    async with store.begin() as unit:
        assert await unit.lease("sweep", "a", NOW, 1000)
        assert await unit.lease("sweep", "a", NOW, 1000)
        assert not await unit.lease("sweep", "b", NOW, 1000)
        assert await unit.lease("sweep", "b", Millis(NOW + 1000), 1000)
        await unit.unlease("sweep", "a")
        assert not await unit.lease("sweep", "a", Millis(NOW + 1000), 1000)
        await unit.unlease("sweep", "b")
        assert await unit.lease("sweep", "a", Millis(NOW + 1000), 1000)


async def test_how_far_the_holder_of_a_lease_has_come_goes_with_the_lease(store: Store) -> None:
    async with store.begin() as unit:
        await unit.save_progress("sweep", 9)
        assert await unit.progress("sweep", NOW) == 0, "nobody holds it"
        await unit.lease("sweep", "a", NOW, 1000)
        await unit.save_progress("sweep", 7)
        await unit.lease("sweep", "a", Millis(NOW + 500), 1000)
        assert await unit.progress("sweep", Millis(NOW + 1499)) == 7
        assert await unit.progress("sweep", Millis(NOW + 1500)) == 0
        await unit.lease("sweep", "b", Millis(NOW + 1500), 1000)
        assert await unit.progress("sweep", Millis(NOW + 1500)) == 0, "another begins anew"


def a_conflict(number: str, at: int) -> Conflict:
    stamp = Stamp(Millis(1), Millis(2))
    return Conflict(number, "C1", "7", Field.COMPANY, "tie", Side.CRM, "Won", "Lost", stamp, stamp, "i1", Millis(at))


async def test_a_page_does_not_end_among_those_of_one_moment_or_one_customer(store: Store) -> None:
    async with store.begin() as unit:
        await unit.archive([a_conflict(name, at) for name, at in (("a", 9), ("b", 9), ("c", 9), ("d", 5))])
        for kind in HoldKind:
            await unit.hold(Hold(Subject("crm:C1"), kind, "why", NOW))
        await unit.hold(Hold(Subject("crm:C2"), HoldKind.REVIEW, "why", NOW))
    async with store.begin() as unit:
        assert [c.id for c in await unit.list_conflicts(None, None, 2)] == ["a", "b", "c"]
        assert [c.id for c in await unit.list_conflicts(None, Millis(9), 2)] == ["d"]
        assert [c.id for c in await unit.list_conflicts(None, None, 9)] == ["a", "b", "c", "d"]
        first = await unit.list_holds(tuple(HoldKind), "", 2)
        assert [hold.subject for hold in first] == ["crm:C1"] * len(HoldKind)
        assert [hold.subject for hold in await unit.list_holds(tuple(HoldKind), "crm:C1", 2)] == ["crm:C2"]


async def test_who_was_not_proven_equal_is_replaced_as_a_whole(store: Store) -> None:
    one = Divergence("C2", "8", ("company", "title"), Standing.WAITING, Millis(5), Millis(3))
    two = Divergence("C1", "7", (), Standing.UNSEEN, Millis(6), Millis(4))
    async with store.begin() as unit:
        assert await unit.divergences() == []
        await unit.save_divergences([one, two])
    async with store.begin() as unit:
        assert await unit.divergences() == [two, one]
        await unit.save_divergences([replace(one, standing=Standing.UNEXPLAINED)])
        assert [known.standing for known in await unit.divergences()] == [Standing.UNEXPLAINED]
        await unit.save_divergences([])
        assert await unit.divergences() == []


async def test_a_customer_is_queued_until_it_is_done(store: Store) -> None:
    async with store.begin() as unit:
        await unit.enqueue([Subject("crm:C1")], NOW)
        assert await unit.is_queued(Subject("crm:C1"))
        assert not await unit.is_queued(Subject("crm:C2"))
        [claim] = await unit.claim(Stage.DECIDE, NOW, 1_000, 5)
        await unit.finish(claim)
        assert not await unit.is_queued(Subject("crm:C1"))


async def test_a_queued_customer_goes_on_the_newest_trace_it_was_given(store: Store) -> None:
    who, other = Subject("crm:C1"), Subject("crm:C2")
    async with store.begin() as unit:
        await unit.enqueue([who, other], NOW, {who: "00-a"})
        await unit.enqueue([who], NOW, {who: "00-b"})
        await unit.enqueue([who], NOW)
        claims = await unit.claim(Stage.DECIDE, NOW, 1_000, 10)
        assert {claim.subject: claim.trace for claim in claims} == {who: "00-b", other: None}
        await unit.save_intent(intent("i7", trace="00-c"))
    async with store.begin() as unit:
        assert (await unit.intents(["i7"]))["i7"].trace == "00-c"


async def test_erasing_blanks_the_past_of_one_and_keeps_the_log(store: Store) -> None:
    other = DecisionEntry(NOW, Subject("crm:C2"), "C2", "8", "linked", None, {"how": "note"})
    entry = DecisionEntry(NOW, Subject("crm:C1"), "C1", "7", "update-decided", "i1", {"set": {"company": "Acme"}})
    steered = DecisionEntry(NOW, STEERED, None, None, "paused", None, {"by": "ida"})
    done = Intent(
        id="i1",
        subject=Subject("crm:C1"),
        side=Side.ION,
        kind=Kind.UPDATE,
        set={Field.COMPANY: "Acme"},
        expect={Field.COMPANY: "Old"},
        state=IntentState.DROPPED,
        at=NOW,
        why={"company": {"rule": "tie"}},
        attempts=2,
        changed_at=NOW,
        answer="the answer was lost",
        answered={Field.COMPANY: "Acme"},
    )
    spent = Change(
        id="c1",
        subject=Subject("crm:C1"),
        side=Side.ION,
        kind=ChangeKind.UPDATE,
        set={Field.COMPANY: "Acme"},
        expect={},
        base={},
        state=ChangeState.SPENT,
        at=NOW,
    )
    mine = DeadLetter("t", 0, 1, "wrong-type", "why", NOW, b"C1", b"{}")
    theirs = replace(mine, offset=2, key=b"C2")
    async with store.begin() as unit:
        await unit.log([other, entry, steered])
        await unit.archive([a_conflict("a", 9)])
        await unit.save_intent(done)
        await unit.save_change(spent)
        await unit.bury([mine, theirs])
        before = await unit.tally_changes(Millis(0))
    async with store.begin() as unit:
        assert await unit.erase(Subject("crm:C1"), "C1", "7") == Erased(1, 1, 1)
    async with store.begin() as unit:
        assert [(e.what, e.detail) for e in await unit.story("C1", "7", 9)] == [("update-decided", {})]
        assert [e.detail for e in await unit.story("C2", "8", 9)] == [{"how": "note"}]
        assert [e.what for e in await unit.steered(9)] == ["paused"]
        assert await unit.list_conflicts("C1", None, 9) == []
        [kept] = (await unit.intents(["i1"])).values()
        assert dict(kept.set) == {Field.COMPANY: None}
        assert (dict(kept.expect), dict(kept.why), kept.answered) == ({}, {}, None)
        assert (kept.attempts, kept.answer) == (2, "erased"), "what keeps a create from being sent again stays"
        [change] = await unit.changes_of(Subject("crm:C1"))
        assert dict(change.set) == {}
        assert await unit.tally_changes(Millis(0)) == before, "what the guard has counted stays counted"
        assert [letter.offset for letter in await unit.list_dead_letters(None, 9)] == [2]
        found = await unit.check_log(0, 9)
        assert (found.entries, found.erased, found.unmarked, found.wrong) == (3, 1, 0, [])
        assert (await unit.check_log(found.last or 0, 9)).last is None


async def test_the_log_is_checked_by_each_key_there_is(sqlite_url: str) -> None:
    engine, new = make_engine(sqlite_url), "0M_p2bXJ3yqJxZr1CwJ2c1pY1Jw2b3m1rY0e8yVqLQ4="
    await schema.upgrade(engine)
    entry = DecisionEntry(NOW, Subject("crm:C1"), "C1", "7", "linked", None, {"how": "note"})
    for keys in ([KEY], [new, KEY]):
        async with SqlStore(engine, Seal(keys), Random(1)).begin() as unit:
            await unit.log([entry])
    async with SqlStore(engine, Seal([new, KEY]), Random(1)).begin() as unit:
        assert (await unit.check_log(0, 9)).wrong == []
    async with SqlStore(engine, Seal([new]), Random(1)).begin() as unit:
        assert (await unit.check_log(0, 9)).wrong == [1]
    async with engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE decisions SET what = 'unlinked' WHERE id = 2")
        await connection.exec_driver_sql("UPDATE decisions SET mark = '' WHERE id = 1")
    async with SqlStore(engine, Seal([new, KEY]), Random(1)).begin() as unit:
        found = await unit.check_log(0, 9)
        assert (found.wrong, found.unmarked) == ([2], 1)
    await engine.dispose()
