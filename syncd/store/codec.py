"""Between core values and what a row holds. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from syncd.core.budget import Ledger
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.link import How, Link, LinkState, Spelling
from syncd.core.match import keys_of
from syncd.core.plan import Change, ChangeKind, ChangeState
from syncd.core.record import Reading, Record, Register, Stamp
from syncd.core.values import (
    CrmId,
    Field,
    IonId,
    Millis,
    Side,
    Subject,
    value_from_json,
    value_to_json,
    values_from_json,
    values_to_json,
)
from syncd.core.work import Conflict, DeadLetter, DecisionEntry

Row = dict[str, Any]


def dumps(value: object) -> str:
    return orjson.dumps(value).decode()


def loads(text: str) -> Any:
    return orjson.loads(text)


def record_to_row(record: Record) -> Row:
    keys = keys_of(record)
    return {
        "side": record.side.value,
        "customer_id": record.customer_id,
        "registers": msgspec.json.encode(record.registers).decode(),
        "written_until": record.written_until,
        "modified": record.modified,
        "own_modified": record.own_modified,
        "missing_sweeps": record.missing_sweeps,
        "created": record.created,
        "row_version": record.row_version + 1,
        "email_key": keys.email,
        "company_key": keys.company,
        "noted_ion_id": keys.noted_ion_id,
    }


def bare_record(side: Side, customer_id: str, registers: str) -> Record:
    """What a side was seen to hold, and nothing else of the row."""
    return Record(side, customer_id, _REGISTERS.decode(registers))


def record_from_row(row: Any) -> Record:
    return Record(
        Side(row.side),
        row.customer_id,
        _REGISTERS.decode(row.registers),
        Millis(row.written_until),
        row.modified,
        row.own_modified,
        row.missing_sweeps,
        row.created,
        row.row_version,
    )


_REGISTERS = msgspec.json.Decoder(dict[str, Register])
"""Of records there are many, and many sightings in each: they are made of JSON, and JSON of them, in C."""


def link_to_row(link: Link) -> Row:
    spellings = [
        [side.value, name.value, value_to_json(s.written), value_to_json(s.read)]
        for (side, name), s in link.spellings.items()
    ]
    return {
        "crm_id": link.crm_id,
        "ion_id": link.ion_id,
        "state": link.state.value,
        "how": link.how.value,
        "since": link.since,
        "base": dumps(values_to_json(link.base)),
        "spellings": dumps(spellings),
        "written_at": link.written_at,
        "frozen": dumps(sorted(link.frozen)),
        "thawed_at": link.thawed_at,
    }


def link_from_row(row: Any) -> Link:
    spellings = {
        (Side(side), Field(name)): Spelling(value_from_json(written), value_from_json(read))
        for side, name, written, read in orjson.loads(row.spellings)
    }
    return Link(
        CrmId(row.crm_id),
        IonId(row.ion_id),
        LinkState(row.state),
        How(row.how),
        Millis(row.since),
        values_from_json(orjson.loads(row.base)),
        spellings,
        Millis(row.written_at),
        frozenset(Field(name) for name in orjson.loads(row.frozen)),
        Millis(row.thawed_at),
    )


def intent_to_row(intent: Intent, deliver_at: Millis | None) -> Row:
    return {
        "id": intent.id,
        "subject": intent.subject,
        "side": intent.side.value,
        "kind": intent.kind.value,
        "state": intent.state.value,
        "at": intent.at,
        "changed_at": intent.changed_at,
        "attempts": intent.attempts,
        "crm_id": intent.crm_id,
        "ion_id": intent.ion_id,
        "set_values": dumps(values_to_json(intent.set)),
        "expect_values": dumps(values_to_json(intent.expect)),
        "why": dumps(intent.why),
        "answer": intent.answer,
        "answered": None if intent.answered is None else dumps(values_to_json(intent.answered)),
        "deliver_at": deliver_at,
        "trace": intent.trace,
    }


def intent_from_row(row: Any) -> Intent:
    return Intent(
        id=row.id,
        subject=Subject(row.subject),
        side=Side(row.side),
        kind=Kind(row.kind),
        set=values_from_json(orjson.loads(row.set_values)),
        expect=values_from_json(orjson.loads(row.expect_values)),
        state=IntentState(row.state),
        at=Millis(row.at),
        crm_id=row.crm_id,
        ion_id=row.ion_id,
        why=orjson.loads(row.why),
        attempts=row.attempts,
        changed_at=Millis(row.changed_at),
        answer=row.answer,
        answered=None if row.answered is None else values_from_json(orjson.loads(row.answered)),
        trace=row.trace,
    )


def change_to_row(change: Change) -> Row:
    body = {
        "set": values_to_json(change.set),
        "expect": values_to_json(change.expect),
        "base": values_to_json(change.base),
        "why": change.why,
    }
    return {
        "id": change.id,
        "subject": change.subject,
        "side": change.side.value,
        "kind": change.kind.value,
        "state": change.state.value,
        "by": change.by,
        "at": change.at,
        "crm_id": change.crm_id,
        "ion_id": change.ion_id,
        "context": change.context,
        "body": dumps(body),
        **change.tally._asdict(),
    }


def change_from_row(row: Any) -> Change:
    body = loads(row.body)
    return Change(
        id=row.id,
        subject=Subject(row.subject),
        side=Side(row.side),
        kind=ChangeKind(row.kind),
        set=values_from_json(body["set"]),
        expect=values_from_json(body["expect"]),
        base=values_from_json(body["base"]),
        at=Millis(row.at),
        crm_id=row.crm_id,
        ion_id=row.ion_id,
        why=body["why"],
        context=row.context,
        state=ChangeState(row.state),
        by=row.by,
    )


def conflict_to_row(conflict: Conflict) -> Row:
    """``winning`` and ``losing`` come out as plain text, still to be sealed."""
    crm, ion = conflict.crm_stamp, conflict.ion_stamp
    return {
        "id": conflict.id,
        "crm_id": conflict.crm_id,
        "ion_id": conflict.ion_id,
        "field": conflict.field.value,
        "rule": conflict.rule,
        "winner": conflict.winner.value,
        "winning": dumps(value_to_json(conflict.winning)),
        "losing": dumps(value_to_json(conflict.losing)),
        "crm_earliest": crm.earliest if crm else None,
        "crm_latest": crm.latest if crm else None,
        "ion_earliest": ion.earliest if ion else None,
        "ion_latest": ion.latest if ion else None,
        "intent_id": conflict.intent_id,
        "at": conflict.at,
    }


def conflict_from_row(row: Any, winning: str, losing: str) -> Conflict:
    return Conflict(
        id=row.id,
        crm_id=row.crm_id,
        ion_id=row.ion_id,
        field=Field(row.field),
        rule=row.rule,
        winner=Side(row.winner),
        winning=value_from_json(orjson.loads(winning)),
        losing=value_from_json(orjson.loads(losing)),
        crm_stamp=_stamp(row.crm_earliest, row.crm_latest),
        ion_stamp=_stamp(row.ion_earliest, row.ion_latest),
        intent_id=row.intent_id,
        at=Millis(row.at),
    )


def _stamp(earliest: int | None, latest: int | None) -> Stamp | None:
    return None if earliest is None or latest is None else Stamp(Millis(earliest), Millis(latest))


def reading_to_text(reading: Reading) -> str:
    known = {str(name): value_to_json(value) for name, value in reading.values.items()}
    return dumps([known, reading.asked, reading.answered, reading.modified, reading.raw, reading.created])


def reading_from_text(ion_id: str, text: str) -> Reading:
    values, asked, answered, modified, raw, created = orjson.loads(text)
    return Reading(ion_id, values_from_json(values), asked, answered, modified, raw, created)


def headers_to_text(headers: tuple[tuple[str, bytes], ...]) -> str:
    return dumps([[name, _base64(value)] for name, value in headers])


def headers_from_text(text: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, base64.b64decode(value)) for name, value in orjson.loads(text))


def decision_to_row(entry: DecisionEntry) -> Row:
    """Without the detail, which is sealed."""
    return {
        "at": entry.at,
        "subject": entry.subject,
        "crm_id": entry.crm_id,
        "ion_id": entry.ion_id,
        "what": entry.what,
        "intent_id": entry.intent_id,
    }


def decision_marked(row: Mapping[str, Any]) -> bytes:
    """What the mark of an entry is made of."""
    names = ("at", "subject", "crm_id", "ion_id", "what", "intent_id", "digest")
    return orjson.dumps([row[name] for name in names])


def letter_body(letter: DeadLetter) -> str:
    key, value = (None if part is None else _base64(part) for part in (letter.key, letter.value))
    return dumps([key, value, headers_to_text(letter.headers)])


def letter_from_row(row: Any, body: str) -> DeadLetter:
    key, value, headers = orjson.loads(body)
    return DeadLetter(
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        reason=row.reason,
        detail=row.detail,
        at=Millis(row.at),
        key=None if key is None else base64.b64decode(key),
        value=None if value is None else base64.b64decode(value),
        headers=headers_from_text(headers),
        id=row.id,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data or b"").decode()


def ledger_to_text(ledger: Ledger) -> str:
    return msgspec.json.encode(ledger).decode()


_LEDGER = msgspec.json.Decoder(Ledger)


def ledger_from_text(body: str) -> Ledger:
    """Hundreds of slots are read and written with each call: they are lists in the text, and tuples here."""
    return _LEDGER.decode(body)
