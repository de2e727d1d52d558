"""S14: what an ION answer means, and the dialects' reading of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import (
    OutcomeUnknown,
    Rejected,
    SideError,
    SideUnavailable,
    Throttled,
    Transient,
    Unauthorised,
)
from syncd.core.values import Address, Field, Millis
from syncd.ion import live, seed
from syncd.ion.answers import Answer, data_of, error_of, oauth_error, retry_after_ms

NOW = Millis(1_767_225_600_000)


def answer(status: int = 200, body: bytes | dict[str, Any] = b"{}", **headers: str) -> Answer:
    raw = orjson.dumps(body) if isinstance(body, dict) else body
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, NOW)


GOOD = b'{"customers": []}'
TABLE = [
    # status, body, what a read makes of it, what a write makes of it
    pytest.param(200, b"<html>login</html>", Transient, OutcomeUnknown, id="HTML"),
    pytest.param(200, GOOD[:9], Transient, OutcomeUnknown, id="half a JSON"),
    pytest.param(200, b"[]", Transient, OutcomeUnknown, id="a list"),
    pytest.param(400, b"{}", Rejected, Rejected, id="400"),
    pytest.param(401, b"", Unauthorised, Unauthorised, id="401"),
    pytest.param(403, b"", Unauthorised, Unauthorised, id="403"),
    pytest.param(404, b"", Rejected, Rejected, id="404"),
    pytest.param(412, b"", Rejected, Rejected, id="412"),
    pytest.param(418, b"", Transient, OutcomeUnknown, id="something else"),
    pytest.param(429, b"", Throttled, Throttled, id="429"),
    pytest.param(500, b"", SideUnavailable, OutcomeUnknown, id="500"),
    pytest.param(503, b"<html>", SideUnavailable, OutcomeUnknown, id="503"),
]


@pytest.mark.parametrize(("status", "body", "read", "write"), TABLE)
def test_each_answer_says_what_to_do_next(
    status: int, body: bytes, read: type[SideError], write: type[SideError]
) -> None:
    for writes, expected in ((False, read), (True, write)):
        with pytest.raises(expected) as caught:
            data_of(answer(status, body), writes=writes, what="a call")
        assert type(caught.value) is expected


def test_an_empty_good_answer_is_data_to_a_reader_and_unknown_to_a_writer() -> None:
    assert data_of(answer(200, b""), writes=False, what="x") == {}
    with pytest.raises(OutcomeUnknown, match="nothing"):
        data_of(answer(200, b""), writes=True, what="x")


def test_a_taken_email_is_told_apart_and_named_as_people_know_it() -> None:
    body = {
        "message": "primaryContactEmail is used",
        "details": [{"referenceEntity": "primaryContactEmail", "code": "CUS-CR-001"}],
    }
    error = error_of(answer(412, body), writes=True, what="a create")
    assert isinstance(error, Rejected)
    assert (error.taken_email, error.code) == (True, "CUS-CR-001")
    assert "email (customerEmail)" in error.sentence


WAITS = [
    ("7", 7_000),
    ("Thu, 01 Jan 2026 00:00:30 GMT", 30_000),
    ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
    ("soon", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "wait"), WAITS)
def test_retry_after_in_seconds_or_as_a_date(text: str, wait: int | None) -> None:
    assert retry_after_ms({"retry-after": text}, NOW) == wait


def test_oauth_errors_are_bare() -> None:
    assert oauth_error(answer(400, {"error": "cannot validate"})) == "400: cannot validate"
    assert oauth_error(answer(502, b"<html>")) == "502"


@given(st.integers(100, 599), st.binary(max_size=40), st.booleans())
def test_no_answer_raises_anything_but_what_to_do(status: int, body: bytes, writes: bool) -> None:
    try:
        assert isinstance(data_of(answer(status, body), writes=writes, what="x"), dict)
    except SideError:
        pass


LIVE = {
    "name": "accounts/20481/customers/311207",
    "customerOrganization": "Harbour",
    "customerAddress": {
        "street": "1 Quay",
        "city": "Tampa",
        "state": "FL",
        "zip": 33602,
        "country": "US",
        "extra": "x",
    },
    "customerName": "Dana",
    "customerEmail": "d@h.example",
    "customerPhone": 8135550142,
    "updateTime": "2026-01-01T00:00:00Z",
    "createTime": "2025-01-01T00:00:00Z",
    "languageCode": "EN",
    "uid": "u",
    "customerStatus": "ACTIVE",
    "customerDomain": "h.example",
}


def test_the_live_dialect_reads_what_it_can() -> None:
    assert live.ion_id(LIVE) == "311207"
    values = live.values(LIVE)
    assert values[Field.ADDRESS] == Address("1 Quay", "", "Tampa", "FL", "33602")
    assert values[Field.PHONE] == "8135550142"
    assert values[Field.STATUS] == "active"
    assert values[Field.TITLE] is None
    assert live.modified(LIVE) == NOW
    assert live.ion_id({"name": 7}) is None
    assert live.modified({"updateTime": "yesterday"}) is None
    assert Field.STATUS not in live.values({"customerStatus": "CUSTOMER_STATUS_UNSPECIFIED"})


def test_a_live_write_sends_the_whole_record_and_keeps_what_it_does_not_know() -> None:
    body = live.update_body(LIVE, {Field.TITLE: "CTO", Field.PHONE: None, Field.COUNTRY: "DE"})
    assert body["customerTitle"] == "CTO"
    assert body["customerPhone"] == ""
    assert body["customerAddress"] == {**LIVE["customerAddress"], "country": "DE"}  # type: ignore[dict-item]
    assert body["customerDomain"] == "h.example"
    assert not live.OUTPUT_ONLY & set(body)
    moved = live.update_body(LIVE, {Field.ADDRESS: Address("2 Quay")})["customerAddress"]
    assert (moved["street"], moved["city"], moved["country"], moved["extra"]) == ("2 Quay", "", "US", "x")


def test_an_answer_that_is_short_of_fields_shows_only_those_it_has() -> None:
    assert live.shown_values({"customerName": "Dana"}) == {Field.CONTACT: "Dana"}
    assert seed.shown_values({"email": "a@b.example"}) == {Field.EMAIL: "a@b.example"}


SEED = {
    "customerId": "9",
    "companyName": "Harbour",
    "email": "d@h.example",
    "country": "US",
    "status": "active",
    "createdAt": "x",
    "vat": "1",
}


def test_the_seed_dialect_reads_three_fields_and_a_status() -> None:
    assert seed.ion_id(SEED) == "9"
    assert seed.ion_id({"customerId": 9}) == "9"
    assert seed.values(SEED) == {
        Field.COMPANY: "Harbour",
        Field.EMAIL: "d@h.example",
        Field.COUNTRY: "US",
        Field.STATUS: "active",
    }
    assert seed.modified(SEED) is None


def test_a_seed_write_carries_what_it_is_given() -> None:
    body = seed.update_body(SEED, {Field.COMPANY: "New", Field.PHONE: "1", Field.ADDRESS: None})
    assert (body["companyName"], body["phone"], body["vat"]) == ("New", "1", "1")
    assert set(body["address"].values()) == {""}
    assert not seed.OUTPUT_ONLY & set(body)


PAGES = [
    # body, cursor, read so far, next
    pytest.param(seed, {"items": [{}], "totalCount": 3}, None, 1, "2", id="seed: more to come"),
    pytest.param(seed, {"items": [{}], "totalCount": "3"}, "2", 3, None, id="seed: all read, a count as text"),
    pytest.param(seed, {"items": [], "totalCount": 3}, "2", 2, None, id="seed: an empty page ends it"),
    pytest.param(seed, {"items": [{}]}, "4", 9, "5", id="seed: no count"),
    pytest.param(live, {"customers": [], "nextPageToken": "t"}, None, 0, "t", id="live: a token"),
    pytest.param(live, {"customers": []}, "t", 0, None, id="live: none"),
    pytest.param(live, {"customers": [], "nextPageToken": ""}, "t", 0, None, id="live: an empty one"),
]


@pytest.mark.parametrize(("dialect", "body", "cursor", "read", "following"), PAGES)
def test_what_page_comes_next(
    dialect: Any, body: dict[str, Any], cursor: str | None, read: int, following: str | None
) -> None:
    assert dialect.next_cursor(body, cursor, read) == following


def test_dialects_are_told_apart_by_their_lists() -> None:
    assert live.is_mine({"customers": []})
    assert not live.is_mine({"items": []})
    assert seed.is_mine({"totalCount": 0})
    assert not seed.is_mine({"nextPageToken": "x"})
    assert live.customers({"customers": [1, {"name": "a"}]}) == [{"name": "a"}]
    assert seed.customers({"items": "none"}) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*LIVE, *SEED]), json_values, max_size=8))
def test_no_customer_is_too_strange_to_read(raw: dict[str, Any]) -> None:
    for dialect in (live, seed):
        dialect.ion_id(raw)
        dialect.values(raw)
        dialect.shown_values(raw)
        dialect.modified(raw)
        dialect.update_body(raw, {Field.COUNTRY: "US", Field.ADDRESS: Address("1")})
