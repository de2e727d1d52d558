"""No secret of an order or of a created customer leaves ION's room, at whatever depth it stands."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syncd.core.redact import HIDDEN, redacted, without_secrets

SECRET = "hunter2-hunter2"
KEYS = st.sampled_from(["password", "tenantAdminPassword", "clientSecret", "refresh_token", "apiKey", "pwd"])
HARMLESS = st.dictionaries(st.sampled_from(["name", "id", "quantity"]), st.text(max_size=5) | st.integers())


@st.composite
def nested(draw: st.DrawFn) -> Any:
    key = draw(KEYS)
    value: Any = draw(st.sampled_from([{key: SECRET}, {"name": key, "value": SECRET}, {key: {"deep": SECRET}}]))
    for _ in range(draw(st.integers(0, 4))):
        value = draw(st.sampled_from([[value], {"x": value}, [draw(HARMLESS), value], {"a": 1, "value": value}]))
    return value


@given(nested())
def test_a_secret_is_hidden_wherever_it_stands(value: Any) -> None:
    assert SECRET not in str(redacted(value))
    assert HIDDEN in str(redacted(value))


def test_what_is_no_secret_stays_as_it_was() -> None:
    value = {"nextPageToken": "c7", "name": "accounts/1", "items": [{"name": "domain", "value": "acme.example"}]}
    assert redacted(value) == value
    assert redacted({"password": None, "secret": ""}) == {"password": None, "secret": ""}


def test_an_error_that_repeats_what_was_sent_loses_the_secret() -> None:
    sent = {"orderItems": [{"attributes": [{"name": "adminPassword", "value": SECRET}]}], "pwd": "other-one"}
    assert without_secrets(f"wrong: {SECRET} and other-one", sent) == f"wrong: {HIDDEN} and {HIDDEN}"
    assert without_secrets("as it is", None) == "as it is"


def test_whatever_a_vendor_wants_to_know_is_taken_out_of_what_ion_says() -> None:
    sent = {"orderItems": [{"attributes": [{"name": "adminPin", "value": "4711"}, {"name": "x", "value": "a"}]}]}
    assert without_secrets("pin 4711 is taken, a pity", sent) == f"pin {HIDDEN} is taken, a pity"
