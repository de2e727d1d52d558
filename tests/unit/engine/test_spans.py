"""Spans, while nobody has asked for them; ``tests/system/test_traces.py`` has them on."""

from __future__ import annotations

import pytest

from syncd.core.values import Millis, Subject
from syncd.engine import spans
from syncd.engine.ingest import _trace
from syncd.engine.intake import SavedEvent


def test_nothing_is_carried_while_traces_are_off() -> None:
    assert not spans.is_on()
    with spans.span("call", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", customer="crm:C1"):
        assert spans.current() is None
        assert spans.carry([Subject("crm:C1")]) == {}


def test_an_error_goes_through_a_span() -> None:
    with pytest.raises(ValueError, match="as it was"), spans.span("call"):
        raise ValueError("as it was")


@pytest.mark.parametrize("brought", [None, b"", b"\xff", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
def test_whatever_an_event_brings_as_its_trace_does_no_harm(brought: bytes | None) -> None:
    headers: tuple[tuple[str, bytes], ...] = (("traceparent", brought),)  # type: ignore[assignment]
    event = SavedEvent("crm.customers", 0, 1, Millis(0), b"C1", b"{}", headers)
    assert _trace(event, "plain", "C1") == {}
