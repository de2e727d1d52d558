"""Messages to the CRM and about it, as they stand on the wire. Pure; Kafka and HTTP carry them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import orjson

from syncd.core.intent import Kind
from syncd.core.values import Millis, Values, value_to_json
from syncd.core.work import DeadLetter, Message
from syncd.engine.ports import Command
from syncd.mapping import CrmMapping

CONTENT_TYPE = (("content-type", b"application/cloudevents+json"),)
SOURCE = "syncd"
MAX_CARRIED = 300_000
"""Bytes of an event that a dead letter carries; as text and base64 they stay below Kafka's limit."""


def rfc3339(at: Millis) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def command_message(topic: str, command: Command, mapping: CrmMapping) -> Message:
    """A ``syncd.customer.create`` or ``.update``, keyed by CRM id, or by its own id for a create."""
    intent = command.intent
    data: dict[str, object] = {
        "ion_id": intent.ion_id,
        "set": spelled(intent.set, mapping),
        "expect": spelled(intent.expect, mapping),
        "why": intent.why,
    }
    if intent.crm_id is not None:
        data["crm_id"] = intent.crm_id
    event = {
        "specversion": "1.0",
        "id": intent.id,
        "source": SOURCE,
        "type": f"syncd.customer.{Kind.UPDATE if intent.kind is Kind.UNDO else intent.kind}",
        "subject": intent.crm_id or intent.id,
        "time": rfc3339(command.at),
        "datacontenttype": "application/json",
        "data": data,
    }
    key = intent.id if intent.kind is Kind.CREATE else intent.crm_id or intent.id
    return Message(topic, key.encode(), orjson.dumps(event), CONTENT_TYPE)


def spelled(values: Values, mapping: CrmMapping) -> dict[str, object]:
    """Canonical names, the CRM's own spelling of the values."""
    return {name.value: value_to_json(mapping.write(name, value)) for name, value in values.items()}


def dead_letter_message(topic: str, letter: DeadLetter) -> Message:
    """The record as it came, base64 where it isn't text, with the reason and its coordinates.

    A value too large to be taken along stays in the store; the coordinates lead to it.
    """
    value = letter.value if len(letter.value or b"") <= MAX_CARRIED else None
    event = {
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": rfc3339(letter.at),
        "key": _text(letter.key),
        "value": _text(value),
        "value_base64": None if value is None else base64.b64encode(value).decode(),
        "headers": [[name, base64.b64encode(value or b"").decode()] for name, value in letter.headers],
    }
    headers = (("syncd-reason", letter.reason.encode()),)
    return Message(topic, letter.key, orjson.dumps(event), headers)


def _text(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
