"""``replay``: events of the past, taken in again from the topic or a file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.output import AsJson, print_json, print_table, progress, settings_of, shown

if TYPE_CHECKING:
    from syncd.crm.kafka import Batch
    from syncd.engine.replay import Rehearsed, Replayed
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore


def replay(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="JSON Lines instead of the topic: events, or `kcat -J`."),
    ] = None,
    begin: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="PARTITION:OFFSET", help="Only these partitions, each from this offset on."),
    ] = None,
    end: Annotated[
        list[str] | None, typer.Option("--to", metavar="PARTITION:OFFSET", help="Only before this offset.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Records that Kafka got from then on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Records that Kafka got before then.")] = None,
    customer: Annotated[str | None, typer.Option(metavar="CRM_ID", help="Only this customer.")] = None,
    is_rehearsal: Annotated[
        bool, typer.Option("--dry-run", help="Store nothing; show what would be written.")
    ] = False,
    is_anew: Annotated[bool, typer.Option("--anew", help="Begin anew one that was broken off.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take events in again, beside live traffic: from the events topic, or from a file.

    What newer events have said stands, and what is so already is not written again. The same command
    goes on where it was broken off. Ends with 1 where events could not be used.
    """
    import asyncio

    from syncd.core.errors import UserError
    from syncd.core.instants import instant
    from syncd.engine.replay import Rehearsed

    settings = settings_of(context)
    if file is not None and (begin or end or since or until):
        raise UserError("--from, --to, --since and --until choose from the topic: leave them out with --file")
    if file is None and settings.kafka.bootstrap_servers is None:
        raise UserError("SYNCD_KAFKA__BOOTSTRAP_SERVERS is missing: name the brokers, or replay a --file")
    if file is not None and not file.is_file():
        raise UserError(f"{file} is no plain file: a replay that may go on later has to find it again")
    if customer == "":
        raise UserError("--customer needs a CRM id")
    times = tuple(None if text is None else instant(text) for text in (since, until))
    source = Source(settings, file, _places(begin), _places(end), *times)
    found = asyncio.run(_replay(settings, source, customer, is_rehearsal=is_rehearsal, is_anew=is_anew))
    if isinstance(found, Rehearsed):
        _show_rehearsed(found, as_json=as_json)
    else:
        _show_replayed(found, as_json=as_json)


def _places(given: Sequence[str] | None) -> dict[int, int]:
    from syncd.core.errors import UserError

    places = dict[int, int]()
    for text in given or ():
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise UserError(f"{text!r} is no place in a topic: give PARTITION:OFFSET, such as 0:1200")
        places[int(partition)] = int(offset)
    return places


class Source:
    """Where the events come from: spans of the topic's partitions, or a file's lines as partition 0."""

    def __init__(
        self,
        settings: Settings,
        file: Path | None = None,
        begin: Mapping[int, int] = MappingProxyType({}),
        end: Mapping[int, int] = MappingProxyType({}),
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        self._settings, self._file = settings, file
        self._begin, self._end, self._since, self._until = begin, end, since, until

    @property
    def choice(self) -> str:
        """What was asked for, as text."""
        if self._file is not None:
            is_same = self._file.stat()  # a new file under the old name is another choice
            return json.dumps([str(self._file.resolve()), is_same.st_size, is_same.st_mtime_ns])
        topic = self._settings.kafka.events_topic
        return json.dumps([topic, dict(self._begin), dict(self._end), self._since, self._until])

    async def spans(self) -> dict[int, range]:
        from syncd.app import kafka_access
        from syncd.core.errors import UserError
        from syncd.core.values import Millis
        from syncd.crm.files import count_lines
        from syncd.crm.kafka import spans_of

        if self._file is not None:
            return {0: range(count_lines(self._file))}
        since, until = (None if at is None else Millis(at) for at in (self._since, self._until))
        topic = self._settings.kafka.events_topic
        there = await spans_of(kafka_access(self._settings), topic, since, until)
        if unknown := sorted((self._begin.keys() | self._end.keys()) - there.keys()):
            raise UserError(f"topic {topic} has no partition {unknown[0]}: it has {len(there)}, from 0 on")
        return {
            number: range(
                max(span.start, self._begin.get(number, 0)), min(span.stop, self._end.get(number, span.stop))
            )
            for number, span in there.items()
            if number in self._begin or not self._begin
        }

    def read(self, spans: Mapping[int, range]) -> AsyncIterator[Batch]:
        from syncd.app import kafka_access
        from syncd.crm.files import read_lines
        from syncd.crm.kafka import read_spans

        if self._file is not None:
            return read_lines(self._file, spans[0])
        return read_spans(kafka_access(self._settings), self._settings.kafka.events_topic, spans)


async def _replay(
    settings: Settings, source: Source, customer: str | None, *, is_rehearsal: bool, is_anew: bool
) -> Replayed | Rehearsed:
    from syncd.opening import open_store

    async with open_store(settings, migrate=False) as store:
        if is_rehearsal:
            return await _rehearse(settings, store, source, customer)
        return await _take_again(settings, store, source, customer, is_anew=is_anew)


async def _take_again(
    settings: Settings, store: SqlStore, source: Source, customer: str | None, *, is_anew: bool
) -> Replayed:
    from syncd.app import ingest_of
    from syncd.engine.replay import Replay

    replay = Replay(store, await ingest_of(settings, store), f"{source.choice} {customer or ''}", customer)
    spans = None if is_anew else await replay.spans_left()
    there = await source.spans()
    left = there
    if spans is not None:
        left = {
            n: range(max(s.start, there[n].start), min(s.stop, there[n].stop)) for n, s in spans.items() if n in there
        }
        gone = sum(map(len, spans.values())) - sum(map(len, left.values()))
        lost = f"; {gone} are gone from the topic meanwhile" if gone else ""
        typer.echo(
            f"It goes on where it was broken off: {sum(map(len, left.values()))} events are left{lost}.", err=True
        )
    with progress("events") as step:
        async for batch in source.read(left):
            left = {n: range(batch.next_offsets.get(n, span.start), span.stop) for n, span in left.items()}
            await replay.take(batch.events, left)
            step(batch.read, batch.total)
    await replay.end()
    return replay.done


async def _rehearse(settings: Settings, store: SqlStore, source: Source, customer: str | None) -> Rehearsed:
    from syncd.app import desk_of, ingest_of
    from syncd.engine.replay import Rehearsal

    policy = await (await desk_of(settings, store)).policy()
    rehearsal = Rehearsal(store, await ingest_of(settings, store), policy, customer)
    with progress("events") as step:
        async for batch in source.read(await source.spans()):
            await rehearsal.take(batch.events)
            step(batch.read, batch.total)
    return await rehearsal.end()


def _show_replayed(found: Replayed, *, as_json: bool) -> None:
    from syncd.crm.files import place_of

    told = [{"where": place_of(letter), "reason": letter.reason, "detail": letter.detail} for letter in found.told]
    if as_json:
        counts = {"events": found.events, "changed": len(found.changed), "unusable": found.unusable}
        print_json({**counts, "told": told})
    else:
        typer.echo(
            f"{found.events} events were taken in again; they said something new of {len(found.changed)} customers."
        )
        for one in told:
            typer.echo("{where} can't be used ({reason}): {detail}".format(**one))
        if found.unusable > len(told):
            typer.echo(f"and {found.unusable - len(told)} more can't be used")
    if found.unusable:
        raise typer.Exit(1)


def _show_rehearsed(found: Rehearsed, *, as_json: bool) -> None:
    from syncd.core.values import value_to_json

    if as_json:
        writes = [
            {
                "crm_id": crm_id,
                "field": outcome.field.value,
                "to": outcome.write_to,
                "from": value_to_json(outcome.loser),
                "set": value_to_json(outcome.value),
                "rule": outcome.rule.value,
            }
            for crm_id, outcome in found.writes
        ]
        counts = {"events": found.events, "told_anew": found.told_anew, "unlinked": found.unlinked}
        print_json({**counts, "writes": writes})
        return
    rows = [
        (crm_id, outcome.field, outcome.write_to, shown(outcome.loser), shown(outcome.value), outcome.rule)
        for crm_id, outcome in found.writes
    ]
    print_table(("customer", "field", "side", "from", "to", "rule"), rows, "Nothing would be written.")
    typer.echo(
        f"{found.events} events; they say something new of {found.told_anew} customers,"
        f" {found.unlinked} of them without a link: those would be matched, or created. Nothing was stored."
    )
