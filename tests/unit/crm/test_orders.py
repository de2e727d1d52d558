"""Orders on the wire: what is taken, and how what can't be used is named."""

from __future__ import annotations

from typing import Any

import jsonschema
import orjson
import pytest

from syncd.core.order import Item, Order, OrderState
from syncd.core.values import Millis
from syncd.crm.orders import order_message, read_order, refusal_message
from syncd.crm.schemas import all_schemas
from syncd.engine.intake import RawEvent, SavedEvent
from syncd.engine.orders import BadOrder

NOW = Millis(2_000_000)
ITEM = {"product": "901", "sku": "S1", "plan": "P1M", "quantity": 5}
PLAIN: dict[str, Any] = {"id": "SO-1", "customer": "C7", "items": [ITEM]}


def record(body: object, at: int = 1_000_000) -> RawEvent:
    value = body if isinstance(body, bytes | None) else orjson.dumps(body)
    return SavedEvent("crm.orders", 0, 0, Millis(at), b"SO-1", value, ())


def test_an_order_is_read_plain_or_as_the_data_of_a_cloud_event() -> None:
    plain = read_order(record(PLAIN), NOW)
    assert plain == Order(
        "SO-1", "C7", (Item("901", "S1", "P1M", 5),), OrderState.WAITING, Millis(1_000_000), NOW, NOW
    )
    assert read_order(record({"specversion": "1.0", "type": "crm.order", "data": PLAIN}), NOW) == plain


def test_an_item_may_change_a_subscription_and_carry_what_a_vendor_wants_to_know() -> None:
    item = {"subscription": 77, "quantity": 9, "attributes": {"domain": "acme.example"}}
    found = read_order(record({**PLAIN, "items": [item]}), NOW)
    assert isinstance(found, Order)
    assert found.items == (Item("", "", "", 9, "77", {"domain": "acme.example"}),)


def test_an_order_of_the_future_came_now_or_nobody_knows_when() -> None:
    for at, taken in ((NOW + 5_000, NOW), (NOW + 3_600_000, 0)):
        found = read_order(record(PLAIN, at=at), NOW)
        assert isinstance(found, Order)
        assert found.at == taken
    without = read_order(record(PLAIN, at=-1), NOW)
    assert isinstance(without, Order)
    assert without.at == 0, "nobody can tell how old it is"


@pytest.mark.parametrize(
    ("body", "order_id", "detail"),
    [
        (None, None, "an order can't be taken back by an empty record: cancel it in ION"),
        (b"{", None, "the order is not JSON"),
        ([1], None, "the order is not a JSON object"),
        ({**PLAIN, "id": ""}, None, "the order's id must be a text"),
        ({**PLAIN, "id": "a\x00b"}, None, "the order's id must be a text"),
        ({**PLAIN, "price": 5}, "SO-1", "order SO-1: an order has no price, only customer, id, items"),
        ({**PLAIN, "customer": None}, "SO-1", "customer must be a text"),
        ({**PLAIN, "items": []}, "SO-1", "items must be a list of 1 to 500 items"),
        ({**PLAIN, "items": ["x"]}, "SO-1", "items[0] must be an object"),
        ({**PLAIN, "items": [{**ITEM, "qty": 1}]}, "SO-1", "items[0]: an item has no qty"),
        ({**PLAIN, "items": [{**ITEM, "quantity": 0}]}, "SO-1", "items[0].quantity must be a whole number from 1"),
        ({**PLAIN, "items": [ITEM, {**ITEM, "quantity": -3}]}, "SO-1", "items[1].quantity must be a whole number"),
        ({**PLAIN, "items": [{**ITEM, "quantity": True}]}, "SO-1", "not True"),
        ({**PLAIN, "items": [{**ITEM, "quantity": "5"}]}, "SO-1", "not '5'"),
        ({**PLAIN, "items": [{"quantity": 1}]}, "SO-1", "items[0] names neither a product nor a subscription"),
        ({**PLAIN, "items": [{**ITEM, "sku": []}]}, "SO-1", "items[0].sku must be a text"),
        ({**PLAIN, "items": [{**ITEM, "attributes": {"a": 1}}]}, "SO-1", "items[0].attributes must be an object"),
    ],
)
def test_what_cant_be_used_is_named_by_its_field(body: object, order_id: str | None, detail: str) -> None:
    found = read_order(record(body), NOW)
    assert isinstance(found, BadOrder)
    assert found.order_id == order_id
    assert detail in found.detail


def test_nothing_of_a_bad_order_is_kept_that_may_be_a_password() -> None:
    secret = {**ITEM, "attributes": {"adminPassword": "hunter2"}, "quantity": 0}
    for body in ({**PLAIN, "items": [secret]}, {"data": {**PLAIN, "items": [secret]}, "specversion": "1.0"}):
        found = read_order(record(body), NOW)
        assert isinstance(found, BadOrder)
        assert b"hunter2" not in (found.kept or b"")
        assert b"SO-1" in (found.kept or b"")
        assert b"901" in (found.kept or b"")
        assert "hunter2" not in found.detail
    torn = read_order(record(orjson.dumps({**PLAIN, "items": [secret]})[:-3]), NOW)
    assert isinstance(torn, BadOrder)
    assert torn.kept is None
    for odd in (orjson.dumps(orjson.dumps(PLAIN).decode()), b"[" * 300 + b"]" * 300, b"[" * 5_000 + b"]" * 5_000):
        bad = read_order(record(odd), NOW)
        assert isinstance(bad, BadOrder)
        assert bad.kept is None


def test_what_is_taken_and_what_is_told_fit_their_schemas() -> None:
    schemas = all_schemas()
    for body in (PLAIN, {**PLAIN, "items": [{"subscription": "7", "quantity": 1, "attributes": {"a": "b"}}]}):
        jsonschema.validate(body, schemas["order"])
    order = read_order(record(PLAIN), NOW)
    assert isinstance(order, Order)
    for message in (order_message("t", order, NOW), refusal_message("t", "SO-2", "why", NOW)):
        jsonschema.validate(orjson.loads(message.value or b""), schemas["order-status"])


def test_the_crm_is_told_what_became_of_its_order() -> None:
    order = read_order(record(PLAIN), NOW)
    assert isinstance(order, Order)
    told = order_message("syncd.orders", order, NOW)
    assert (told.topic, told.key) == ("syncd.orders", b"SO-1")
    event = orjson.loads(told.value or b"")
    assert (event["type"], event["subject"]) == ("syncd.order.waiting", "SO-1")
    assert event["data"]["state"] == "waiting"
    refused = orjson.loads(refusal_message("syncd.orders", "SO-2", "why", NOW).value or b"")
    assert refused["data"] == {"id": "SO-2", "state": "refused", "reason": "why"}


def test_a_value_with_parts_is_not_repeated_in_what_is_said_of_it() -> None:
    secret = {"adminPassword": "hunter2"}
    for body in (
        {**PLAIN, "customer": secret},
        {**PLAIN, "items": [{**ITEM, "quantity": secret, "attribute": secret}]},
    ):
        found = read_order(record(body), NOW)
        assert isinstance(found, BadOrder)
        assert "hunter2" not in found.detail
        assert b"hunter2" not in (found.kept or b"")
