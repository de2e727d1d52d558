"""Contract 3: the three forms of events, and what can't be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.record import DELETED, ION_NOTE, PRESENCE, PRESENT
from syncd.core.values import Address, Field, Millis
from syncd.crm.events import EventDecoder
from syncd.engine.ingest import Decoded, Refusal, Told, Unusable
from syncd.engine.intake import SavedEvent
from syncd.mapping import load_mapping

NOW = Millis(1_767_225_600_000)  # 2026-01-01T00:00:00Z
AT = "2025-12-31T23:59:00Z"
AT_MS = NOW - 60_000


def decode(value: object, key: str | bytes | None = "C1", headers: tuple[tuple[str, bytes], ...] = ()) -> Decoded:
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    name = key.encode() if isinstance(key, str) else key
    event = SavedEvent("t", 0, 42, Millis(NOW - 1_000), name, raw, headers)
    return EventDecoder(load_mapping(None), 2_000).decode(event, NOW)


def told(*arguments: Any, **named: Any) -> Told:
    answer = decode(*arguments, **named)
    assert isinstance(answer, Told), answer
    return answer


def plain(**more: Any) -> dict[str, Any]:
    return {"type": "changed", "id": "C1", "time": AT, "customer": {"company": "Acme"}, **more}


STRUCTURED = {
    "specversion": "1.0",
    "type": "crm.customer.changed",
    "source": "crm",
    "id": "e1",
    "subject": "C1",
    "time": AT,
    "causedby": "cmd",
    "ionid": "7",
    "data": {"company": "Acme"},
}
BINARY = tuple((f"ce_{name}", str(value).encode()) for name, value in STRUCTURED.items() if name != "data")
ROW = {"id": "C1", "company": "Acme", "caused_by": "cmd", "ion_id": "7", "address_street": "1 Main"}
DEBEZIUM = {"op": "u", "before": None, "after": ROW, "source": {"ts_ms": AT_MS}}

SAME = [
    pytest.param(plain(caused_by="cmd", ion_id="7"), (), "plain", id="plain"),
    pytest.param(STRUCTURED, (), "cloudevents", id="structured CloudEvents"),
    pytest.param({"company": "Acme"}, BINARY, "cloudevents", id="binary CloudEvents"),
    pytest.param(DEBEZIUM, (), "debezium", id="bare Debezium"),
    pytest.param({"schema": {}, "payload": DEBEZIUM}, (), "debezium", id="Debezium with schema"),
    pytest.param({"payload": DEBEZIUM}, (), "debezium", id="Debezium payload"),
]


@pytest.mark.parametrize(("event", "headers", "form"), SAME)
def test_the_forms_say_the_same(event: object, headers: tuple[tuple[str, bytes], ...], form: str) -> None:
    answer = told(event, headers=headers)
    assert (answer.form, answer.answers) == (form, "cmd")
    seen = answer.observation
    assert (seen.customer_id, seen.position.at, seen.position.offset, seen.is_edit) == ("C1", AT_MS, 42, True)
    assert seen.values[Field.COMPANY] == "Acme"
    assert (seen.values[PRESENCE], seen.values[ION_NOTE]) == (PRESENT, "7")


def test_flat_columns_make_an_address() -> None:
    assert told(DEBEZIUM).observation.values[Field.ADDRESS] == Address("1 Main")
    nested = told(plain(customer={"address": {"street": " 1  Main ", "zip": "33602"}}))
    assert nested.observation.values[Field.ADDRESS] == Address("1 Main", "", "", "", "33602")


def test_missing_is_unchanged_and_blank_is_cleared() -> None:
    values = told(plain(customer={"company": "", "email": None})).observation.values
    assert values[Field.COMPANY] is values[Field.EMAIL] is None
    assert Field.PHONE not in values


@pytest.mark.parametrize("op", ["c", "u"])
def test_debezium_changes(op: str) -> None:
    assert told({**DEBEZIUM, "op": op}).observation.is_edit


def test_a_debezium_snapshot_is_no_edit() -> None:
    assert not told({**DEBEZIUM, "op": "r"}).observation.is_edit


def test_a_column_that_debezium_did_not_read_is_unchanged() -> None:
    row = {**ROW, "company": "__debezium_unavailable_value"}
    assert Field.COMPANY not in told({**DEBEZIUM, "after": row}).observation.values


DELETIONS = [
    pytest.param(None, id="a record without a value"),
    pytest.param({"op": "d", "before": ROW, "after": None}, id="Debezium delete"),
    pytest.param({"schema": {}, "payload": None}, id="Debezium tombstone with schema"),
    pytest.param(plain(type="deleted"), id="plain"),
    pytest.param({**STRUCTURED, "type": "crm.customer.deleted"}, id="CloudEvents"),
]


@pytest.mark.parametrize("event", DELETIONS)
def test_deletions(event: object) -> None:
    assert told(event).observation.values[PRESENCE] == DELETED


def test_versions_order_and_times_default_to_the_brokers() -> None:
    assert told(plain(version=7)).observation.position.version == 7
    assert told(plain(version="7")).observation.position.version == 7
    event = plain()
    del event["time"]
    assert told(event).observation.position.at == NOW - 1_000


def test_a_stamp_a_little_in_the_future_is_the_time_of_receipt_and_counted() -> None:
    decoder = EventDecoder(load_mapping(None), 2_000)
    event = SavedEvent("t", 0, 1, NOW, b"C1", json.dumps(plain(time="2026-01-01T00:01:00Z")).encode(), ())
    answer = decoder.decode(event, NOW)
    assert isinstance(answer, Told)
    assert answer.observation.position.at == NOW
    assert answer.is_clamped


def test_refusals_name_their_command() -> None:
    event = {"type": "command-rejected", "caused_by": "cmd", "customer": {"reason": "locked"}}
    assert decode(event) == Refusal("plain", None, "cmd", "locked", Millis(NOW - 1_000))


KEYS = ["C1", '"C1"', '{"id":"C1"}', '{"schema":{},"payload":{"id":"C1"}}']


@pytest.mark.parametrize("key", KEYS)
def test_keys_come_plain_quoted_or_as_a_struct(key: str) -> None:
    assert told(plain(), key=key).observation.customer_id == "C1"


def test_the_key_alone_or_the_event_alone_can_name_the_customer() -> None:
    event = plain()
    del event["id"]
    assert told(event).observation.customer_id == "C1"
    assert told(plain(), key=None).observation.customer_id == "C1"
    assert told({**plain(), "id": 17}, key="17").observation.customer_id == "17"


BAD = [
    pytest.param(b"\xff\xfe", "undecodable", id="not UTF-8"),
    pytest.param(b"{", "undecodable", id="half a JSON"),
    pytest.param(b"[1]", "wrong-type", id="a list"),
    pytest.param(b"7", "wrong-type", id="a number"),
    pytest.param({}, "unknown-type", id="nothing known"),
    pytest.param(plain(type="renamed"), "unknown-type", id="an unknown type"),
    pytest.param({**STRUCTURED, "type": "other.thing"}, "unknown-type", id="another CloudEvent"),
    pytest.param({**DEBEZIUM, "op": "x"}, "unknown-type", id="an unknown op"),
    pytest.param({**DEBEZIUM, "after": None}, "wrong-type", id="no row"),
    pytest.param(plain(customer=None), "wrong-type", id="no customer"),
    pytest.param(plain(customer={"company": 7}), "wrong-type", id="a number as a company"),
    pytest.param(plain(customer={"address": "1 Main"}), "wrong-type", id="a text as an address"),
    pytest.param(plain(customer={"address": {"zip": 33602}}), "wrong-type", id="a number as a zip"),
    pytest.param(plain(customer={"status": "sleeping"}), "wrong-type", id="an unknown status"),
    pytest.param(plain(customer={"company": "a\x00b"}), "wrong-type", id="a zero byte"),
    pytest.param(plain(customer={"company": "x" * 1001}), "over-long", id="an over-long value"),
    pytest.param({**plain(), "id": "x" * 201}, "over-long", id="an over-long id"),
    pytest.param({**plain(), "id": "C2"}, "key-mismatch", id="key and id disagree"),
    pytest.param(plain(time="soon"), "bad-time", id="no time at all"),
    pytest.param(plain(time=True), "bad-time", id="a time of a wrong type"),
    pytest.param(plain(time="1914-01-01T00:00:00Z"), "bad-time", id="before 1970"),
    pytest.param(plain(time="2027-01-01T00:00:00Z"), "far-future", id="far in the future"),
    pytest.param(plain(version=1.5), "wrong-type", id="a broken version"),
    pytest.param(plain(version="--5"), "wrong-type", id="a version that only looks like a number"),
    pytest.param(plain(version="²"), "wrong-type", id="a version in digits that are none"),
    pytest.param({"type": "command-rejected"}, "no-command", id="a refusal of nothing"),
]


@pytest.mark.parametrize(("event", "reason"), BAD)
def test_what_cannot_be_used_says_why(event: object, reason: str) -> None:
    answer = decode(event)
    assert isinstance(answer, Unusable)
    assert answer.reason == reason
    assert answer.detail


def test_nobody_named_is_nobody() -> None:
    event = plain()
    del event["id"]
    answer = decode(event, key=None)
    assert isinstance(answer, Unusable)
    assert answer.reason == "no-id"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = [
    "type",
    "id",
    "customer",
    "time",
    "version",
    "op",
    "before",
    "after",
    "payload",
    "specversion",
    "data",
    "subject",
]


@given(st.dictionaries(st.sampled_from(NAMES), json_values, max_size=8), st.binary(max_size=12) | st.none())
def test_no_document_ever_raises(document: dict[str, Any], key: bytes | None) -> None:
    assert isinstance(decode(document, key=key), Told | Refusal | Unusable)


@given(st.binary(max_size=60), st.binary(max_size=12) | st.none())
def test_no_bytes_ever_raise(value: bytes, key: bytes | None) -> None:
    assert isinstance(decode(value, key=key), Told | Refusal | Unusable)
