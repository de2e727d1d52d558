"""The three forms of CRM events, told apart by content. Pure: bytes in, a decoded event out.

1. CloudEvents 1.0 JSON, structured or binary.  2. Debezium rows, with the tombstone after a delete.
3. Plain JSON. A record without a value is a deletion in any form.

Rules
* Nothing raises: what can't be used comes back as ``Unusable`` with the reason.
* A field that is missing is unchanged; ``null`` or ``""`` is cleared.
* Version orders a customer's events where there is one, else time, else the offset.

Next in the flow: ``engine.ingest``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from syncd.core.record import DELETED, ION_NOTE, PRESENCE, PRESENT, Observation, Position
from syncd.core.values import Millis, Side, Value
from syncd.engine.ingest import Decoded, Known, Refusal, Told, Unusable, nobody
from syncd.engine.intake import RawEvent
from syncd.mapping import CrmMapping, WrongValue

MAX_ID_LENGTH = 200
FAR_FUTURE_MS = 24 * 3_600_000
MISSING_IN_ROW = "__debezium_unavailable_value"
CLOUD_EVENTS_TYPES = "crm.customer."
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


class Bad(Exception):
    """Why an event can't be used: a word for the metrics, a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Message(NamedTuple):
    """What the three forms have in common."""

    form: str
    kind: str
    """``changed``, ``snapshot``, ``deleted`` or ``command-rejected``."""
    crm_id: str | None
    time: object
    version: object
    caused_by: object
    ion_id: object
    customer: object


class EventDecoder:
    def __init__(self, mapping: CrmMapping, skew_ms: int) -> None:
        self._mapping = mapping
        self._skew_ms = skew_ms

    def decode(self, event: RawEvent, now: Millis, known: Known = nobody) -> Decoded:
        form = "unknown"
        try:
            message = _message(event, self._mapping.id_column)
            form = message.form
            return self._told(event, message, now, known)
        except Bad as bad:
            return Unusable(form, bad.reason, bad.detail)
        except WrongValue as wrong:
            reason = "over-long" if "characters" in str(wrong) else "wrong-type"
            return Unusable(form, reason, str(wrong))
        except Exception as error:  # whatever else it is: one event must not hold up a partition
            return Unusable(form, "undecodable", f"the event could not be read: {type(error).__name__}")

    def _told(self, event: RawEvent, message: Message, now: Millis, known: Known) -> Decoded:
        caused_by = _optional_text("caused_by", message.caused_by)
        if message.kind == "command-rejected":
            return _refusal(message, caused_by, event.timestamp)
        crm_id = _agreed_id(event, message, self._mapping.id_column)
        at = self._instant(message.time, event, now)
        is_clamped = at == now and message.time is not None
        position = Position(_version(message.version), at, event.offset)
        if message.kind == "deleted":
            gone: dict[str, Value] = {PRESENCE: DELETED}
            return Told(message.form, Observation(Side.CRM, crm_id, gone, position, True), caused_by, is_clamped)
        if not isinstance(message.customer, dict):
            raise Bad("wrong-type", f"a {message.kind} event needs the customer as an object")
        values = self._mapping.read(message.customer, known(crm_id))
        values[PRESENCE] = PRESENT
        ion_id = _optional_text("ion_id", message.ion_id)
        if ion_id is not None:
            values[ION_NOTE] = ion_id
        else:
            values.pop(ION_NOTE, None)
        seen = Observation(Side.CRM, crm_id, values, position, is_edit=message.kind == "changed")
        return Told(message.form, seen, caused_by, is_clamped)

    def _instant(self, raw: object, event: RawEvent, now: Millis) -> Millis:
        if raw is None:
            if event.timestamp <= 0:
                raise Bad("no-time", "neither the event nor Kafka says when it happened")
            return Millis(min(event.timestamp, now))
        at = _parsed_time(raw)
        if at > now + FAR_FUTURE_MS:
            raise Bad("far-future", f"the event's time {raw} is more than a day in the future")
        if at > now + self._skew_ms:
            return now
        return at


def _message(event: RawEvent, id_column: str) -> Message:
    if event.value is None:
        return Message("tombstone", "deleted", None, None, None, None, None, None)
    if event.headers:
        headers = {name.lower(): value for name, value in event.headers}
        if "ce_specversion" in headers:
            return _binary_cloud_event(headers, event.value)
    document = _json(event.value)
    if not isinstance(document, dict):
        raise Bad("wrong-type", "the event is not a JSON object")
    if "specversion" in document:
        return _cloud_event(document, document.get("data"))
    if "payload" in document and ("schema" in document or _is_envelope(document["payload"])):
        return _debezium(document["payload"], id_column)
    if _is_envelope(document):
        return _debezium(document, id_column)
    return _plain(document)


def _json(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Bad("undecodable", f"the event is not JSON: {error.msg} at byte {error.pos}") from None


def _binary_cloud_event(headers: Mapping[str, bytes], value: bytes) -> Message:
    attributes: dict[str, object] = {}
    for name, raw in headers.items():
        if name.startswith("ce_"):
            attributes[name.removeprefix("ce_")] = _utf8(f"header {name}", raw or b"")
    return _cloud_event(attributes, _json(value) if value else None)


def _cloud_event(attributes: Mapping[str, Any], data: object) -> Message:
    kind = attributes.get("type")
    if not isinstance(kind, str) or not kind.startswith(CLOUD_EVENTS_TYPES):
        raise Bad("unknown-type", f"type {kind!r} is not one of crm.customer.changed, .deleted, .snapshot")
    return Message(
        form="cloudevents",
        kind=_known_kind(kind.removeprefix(CLOUD_EVENTS_TYPES)),
        crm_id=_optional_text("subject", attributes.get("subject")),
        time=attributes.get("time"),
        version=attributes.get("version"),
        caused_by=attributes.get("causedby"),
        ion_id=attributes.get("ionid"),
        customer=data,
    )


def _is_envelope(document: object) -> bool:
    return isinstance(document, dict) and "op" in document and ("before" in document or "after" in document)


def _debezium(payload: object, id_column: str) -> Message:
    if payload is None:
        return Message("tombstone", "deleted", None, None, None, None, None, None)
    if not isinstance(payload, dict):
        raise Bad("wrong-type", "the Debezium payload is not an object")
    kinds = {"c": "changed", "u": "changed", "r": "snapshot", "d": "deleted"}
    kind = kinds.get(str(payload.get("op")))
    if kind is None:
        raise Bad("unknown-type", f"Debezium op {payload.get('op')!r} is not one of c, u, d, r")
    row = payload.get("before" if kind == "deleted" else "after")
    row = row if isinstance(row, dict) else {}
    row = {name: value for name, value in row.items() if value != MISSING_IN_ROW}
    if kind != "deleted" and not row:
        raise Bad("wrong-type", "the Debezium event has no row in `after`")
    source = payload.get("source")
    moment = source.get("ts_ms") if isinstance(source, dict) else None
    return Message(
        form="debezium",
        kind=kind,
        crm_id=_id_text(row.get(id_column)),
        time=moment if moment is not None else payload.get("ts_ms"),
        version=row.get("version"),
        caused_by=row.get("caused_by"),
        ion_id=_id_text(row.get("ion_id")),
        customer=row,
    )


def _plain(document: Mapping[str, Any]) -> Message:
    kind = document.get("type")
    if not isinstance(kind, str):
        raise Bad("unknown-type", "the event is neither CloudEvents, nor Debezium, nor plain JSON with a type")
    told = document.get
    crm_id, ion_id = _id_text(told("id")), _id_text(told("ion_id"))
    return Message(
        "plain", _known_kind(kind), crm_id, told("time"), told("version"), told("caused_by"), ion_id, told("customer")
    )


def _known_kind(kind: str) -> str:
    if kind not in ("changed", "snapshot", "deleted", "command-rejected"):
        raise Bad("unknown-type", f"type {kind!r} is not one of changed, deleted, snapshot, command-rejected")
    return kind


def _refusal(message: Message, caused_by: str | None, at: Millis) -> Refusal:
    if caused_by is None:
        raise Bad("no-command", "a command-rejected event must name its command in caused_by")
    data = message.customer
    reason = data.get("reason") if isinstance(data, dict) else None
    text = reason if isinstance(reason, str) else "no reason given"
    return Refusal(message.form, message.crm_id, caused_by, text[:300].replace("\x00", ""), at)


def _agreed_id(event: RawEvent, message: Message, id_column: str) -> str:
    """The customer's id, which the key and the event must not contradict each other about."""
    key = _key_id(event.key, id_column)
    if message.crm_id is None and key is None:
        raise Bad("no-id", "neither the key nor the event says which customer it is about")
    if message.crm_id is not None and key is not None and message.crm_id != key:
        raise Bad("key-mismatch", "the key and the event name different customers")
    crm_id = message.crm_id or key or ""
    if len(crm_id) > MAX_ID_LENGTH:
        raise Bad("over-long", f"the id has {len(crm_id)} characters, {MAX_ID_LENGTH} are allowed")
    if "\x00" in crm_id:
        raise Bad("wrong-type", "the id has a zero byte in it")
    return crm_id


def _key_id(key: bytes | None, id_column: str) -> str | None:
    """A plain text, or what Kafka Connect makes of one: quoted, or an object with the id column."""
    if not key:
        return None
    text = _utf8("key", key)
    if text[0] not in '{"':
        return text
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if isinstance(parsed, dict) and isinstance(parsed.get("payload"), dict | str):
        parsed = parsed["payload"]
    if isinstance(parsed, dict):
        return _id_text(parsed.get(id_column))
    return parsed if isinstance(parsed, str) else text


def _utf8(what: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Bad("undecodable", f"the {what} is not UTF-8") from None


def _id_text(raw: object) -> str | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    return _optional_text("id", raw)


def _optional_text(name: str, raw: object) -> str | None:
    if raw is None or raw == "":
        return None
    if not isinstance(raw, str):
        raise Bad("wrong-type", f"{name} is not a text")
    if len(raw) > MAX_ID_LENGTH:
        raise Bad("over-long", f"{name} has {len(raw)} characters, {MAX_ID_LENGTH} are allowed")
    if "\x00" in raw:
        raise Bad("wrong-type", f"{name} has a zero byte in it")
    return raw


def _version(raw: object) -> int | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and WHOLE_NUMBER.fullmatch(raw):
        return int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < 2**63:
        return raw
    raise Bad("wrong-type", "version is not a whole number")


def _parsed_time(raw: object) -> Millis:
    """RFC 3339 text, taken as UTC where it names no offset; or milliseconds since 1970."""
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < 2**53:
        return Millis(raw)
    if not isinstance(raw, str):
        raise Bad("bad-time", "time is not a text in RFC 3339")
    try:
        moment = datetime.fromisoformat(raw)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        millis = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Bad("bad-time", f"time {raw[:40]!r} is not RFC 3339, such as 2026-05-04T09:30:00Z") from None
    if millis < 0:
        raise Bad("bad-time", f"time {raw[:40]!r} lies before 1970")
    return Millis(millis)
