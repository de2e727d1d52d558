"""Contracts on the wire, and what the CRM is told of licences."""

from __future__ import annotations

from decimal import Decimal

import jsonschema
import orjson
import pytest

from syncd.core.licences import Contract, Drift, DriftKind, Subscription
from syncd.core.values import Millis
from syncd.crm.licences import drift_message, read_contract, subscription_message
from syncd.crm.schemas import all_schemas
from syncd.engine.ingest import Unusable
from syncd.engine.intake import RawEvent, SavedEvent

ONE = Subscription("7", "301", "Suite", "Microsoft", "S1", 5, "active", Decimal("20.5"), None, "USD")


def record(value: object, key: bytes | None = None) -> RawEvent:
    data = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return SavedEvent("crm.contracts", 0, 0, Millis(5), key, data, ())


def test_a_contract_is_told_changed_and_ended() -> None:
    told = {"customer": "C7", "sku": "S1", "seats": 10}
    jsonschema.validate(told, all_schemas()["contract"])
    assert read_contract(record(told)) == Contract("C7", "S1", 10)
    assert read_contract(record({"specversion": "1.0", "data": told})) == Contract("C7", "S1", 10)
    assert read_contract(record({**told, "seats": 0})) == Contract("C7", "S1", 0)
    assert read_contract(record(None, b"C7/S1/x")) == Contract("C7", "S1/x", 0)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"{", "the contract is not JSON"),
        ([], "the contract is not a JSON object"),
        ({"customer": "C7", "sku": "S1"}, "seats must be a whole number from 0"),
        ({"customer": "C7", "sku": "S1", "seats": -1}, "not -1"),
        ({"customer": "C7", "sku": "S1", "seats": True}, "not True"),
        ({"customer": "", "sku": "S1", "seats": 1}, "customer must be a text"),
        ({"customer": "C7", "sku": "\x00", "seats": 1}, "sku must be a text"),
        (None, "the key's customer must be a text"),
    ],
)
def test_what_cant_be_used_is_named(value: object, detail: str) -> None:
    found = read_contract(record(value))
    assert isinstance(found, Unusable)
    assert detail in found.detail


def test_the_crm_is_told_a_subscription_whole_and_each_move_of_its_seats() -> None:
    whole = subscription_message("syncd.subscriptions", ONE, "C7", Millis(5))
    assert whole.key == b"synnex/7"
    told = orjson.loads(whole.value or b"")
    assert (told["customer"], told["ion_customer"], told["seats"], told["price"], told["cost"]) == (
        "C7", "301", 5, "20.50", None,
    )  # fmt: skip
    jsonschema.validate(told, all_schemas()["subscription"])
    move = drift_message("syncd.licence-drift", Drift(Millis(5), DriftKind.SEATS, ONE, 3), None)
    told = orjson.loads(move.value or b"")
    assert (move.key, told["kind"], told["was"], told["is"]) == (b"synnex/7", "seats", 3, 5)
    assert told["subscription"]["customer"] is None
    jsonschema.validate(told, all_schemas()["licence-drift"])
