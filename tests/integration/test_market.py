"""What a person writes in ION by hand beside customer sync, and what odd answers of ION come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from yarl import URL

from syncd.app import machine_clock
from syncd.core.errors import NotFound, Transient, UserError
from syncd.core.link import How, Link, LinkState
from syncd.core.policy import Dialect
from syncd.core.values import Address, CrmId, Field, IonId, Millis, Side, subject_of
from syncd.ion.client import IonClient
from syncd.ion.gate import BudgetGate
from syncd.ion.market import Market
from syncd.ion.oauth import Credentials
from syncd.ion.wire import Reply
from syncd.store.memory import MemoryStore
from tests.integration.test_ion_client import Rig, rig

CUSTOMER = "300001"
ADDRESS = Address("1 Main", "", "Tampa", "FL", "33602")


async def link_of(ion: Rig) -> Link:
    base = {Field.PHONE: "+18135550142", Field.ADDRESS: ADDRESS, Field.COMPANY: "as it was agreed once"}
    link = Link(CrmId("C1"), IonId(CUSTOMER), LinkState.LINKED, How.PERSON, Millis(1), base)
    async with ion.store.begin() as unit:
        await unit.add_link(link)
    return link


@pytest.mark.parametrize("dialect", ["live", "seed"])
async def test_a_customer_that_syncd_is_at_is_left_to_it(dialect: str) -> None:
    async with rig(dialect=dialect) as ion, ion.client() as client:
        market = Market(client, ion.store)
        await link_of(ion)
        async with ion.store.begin() as unit:
            await unit.enqueue([subject_of(Side.CRM, "C1")], Millis(1))
        with pytest.raises(UserError, match="syncd is at customer C1"):
            await market.update_customer(CUSTOMER, {"companyName": "New"})
        assert ion.calls("update") == 0
        with pytest.raises(NotFound):
            await market.update_customer("999", {"companyName": "New"})


async def test_what_the_seed_dialect_never_shows_is_carried_along_and_what_it_shows_is_as_it_is_now() -> None:
    async with rig(dialect="seed") as ion, ion.client() as client:
        await link_of(ion)
        before = dict(ion.account.customers[CUSTOMER])
        await Market(client, ion.store).update_customer(CUSTOMER, {"email": "new@acme.example"})
        after = ion.account.customers[CUSTOMER]
        assert after["company"] == before["company"]
        assert (after["email"], after["phone"]) == ("new@acme.example", "+18135550142")
        assert after["address"]["street"] == "1 Main"


class Canned:
    """An ION that answers as it is told, whatever it is asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def exchange(
        self, method: str, url: URL, headers: Mapping[str, str], query: Mapping[str, str] | None, body: bytes | None
    ) -> Reply:
        if url.path.startswith("/oauth"):
            token = {"access_token": "A", "refresh_token": "R", "expires_in": 7200, "token_type": "Bearer"}
            return Reply(200, {}, orjson.dumps(token))
        status, answer = self.answers.pop(0)
        return Reply(status, {}, orjson.dumps(answer))


def market_of(dialect: Dialect, *answers: Any) -> Market:
    store, clock = MemoryStore(), machine_clock()
    client = IonClient(
        url="http://ion.canned",
        account="20481",
        credentials=Credentials("first"),
        wire=Canned(*answers),
        store=store,
        gate=BudgetGate(store, clock, 100, 10_000),
        clock=clock,
        owner="me",
        dialect=dialect,
        page_size=None,
    )
    return Market(client, store)


async def rows_of(market: Market, name: str) -> list[Any]:
    return [row async for page in market.pages(name) for row in page]


def page(number: int, token: str | None) -> tuple[int, Any]:
    return 200, {"orders": [{"name": f"accounts/1/customers/2/orders/{number}"}], "nextPageToken": token}


async def test_pages_that_lead_in_a_circle_end() -> None:
    market = market_of(Dialect.LIVE, page(1, "a"), page(2, "b"), page(3, "a"), page(2, "b"), page(3, "a"))
    with pytest.raises(Transient, match="in a circle"):
        await rows_of(market, "orders list")
    assert market.calls == 3


async def test_a_server_that_knows_no_pages_gives_its_rows_once() -> None:
    rows = {"items": [{"orderId": "1"}, {"orderId": "2"}]}
    assert await rows_of(market_of(Dialect.SEED, (200, rows), (200, rows)), "orders list") == rows["items"]


@pytest.mark.parametrize("status", [400, 413])
async def test_smaller_pages_are_tried_where_a_large_one_is_refused_and_the_size_is_remembered(status: int) -> None:
    market = market_of(Dialect.LIVE, (status, {"message": "page_size"}), page(1, None), page(1, None))
    assert len(await rows_of(market, "orders list")) == 1
    assert market.calls == 2
    await rows_of(market, "orders list")
    assert market.calls == 3


@pytest.mark.parametrize("answer", [[{"a": 1}], {"orders": {"a": 1}}, {"orders": [1]}, []])
async def test_an_answer_that_is_no_list_is_said_to_be_none(answer: Any) -> None:
    with pytest.raises(Transient, match="that is no list"):
        await rows_of(market_of(Dialect.LIVE, (200, answer)), "orders list")


@pytest.mark.parametrize("answer", [{}, {"orders": None}, {"orders": []}])
async def test_an_empty_list_may_be_left_out(answer: Any) -> None:
    assert await rows_of(market_of(Dialect.LIVE, (200, answer)), "orders list") == []


@pytest.mark.parametrize("answer", [{}, [], {"id": None}])
async def test_a_subscription_without_an_id_is_not_changed(answer: Any) -> None:
    market = market_of(Dialect.LIVE, (200, answer))
    with pytest.raises(Transient, match="has no id"):
        await market.update_subscription("7", "1", {"quantity": 2})
    assert market.calls == 1


async def test_what_ion_repeats_of_a_secret_in_an_error_is_hidden_also_where_the_text_is_cut() -> None:
    secret = "s3cret-" * 5
    item = {"productId": "p", "skuId": "s", "planId": "m", "quantity": 1}
    item |= {"attributes": [{"name": "adminPassword", "value": secret}]}
    for padding in (0, 250):
        message = "x" * padding + secret
        market = market_of(Dialect.LIVE, (400, {"error": "INVALID_ARGUMENT", "message": message}))
        with pytest.raises(Exception, match="400") as told:
            await market.do("orders create", {"customer": "7"}, {"orderItems": [item]})
        assert "s3cret" not in str(told.value)
