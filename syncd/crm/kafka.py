"""Kafka, by aiokafka: events in, in batches; commands, links and dead letters out.

The database's offsets win: they are sought on assignment, stored with the effect of the events, and
committed to Kafka only after that (S12). While the store is away nothing is fetched.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, for_code

from syncd.core.errors import StoreConflict, Transient, UserError
from syncd.core.values import Millis
from syncd.core.work import Message
from syncd.crm.commands import command_message
from syncd.engine import spans
from syncd.engine.intake import Intake, RawEvent
from syncd.engine.ports import Clock, Command, CrmAnswer, Posts
from syncd.mapping import CrmMapping

log = structlog.get_logger()

CHUNK = 1_000
"""Records that are read in one go, between two looks at what else there is to do."""
MAX_EVENTS, MAX_CUSTOMERS, MAX_BYTES, MAX_SECONDS = 100_000, 20_000, 32 * 1024 * 1024, 5.0
"""Of a backlog, as much is stored at once: who is told of often is stored once. Records, the customers they are of,
what they weigh, and how long it may take to get them."""
PAST = 5_000
"""Records that are read again in one go, for a command that does nothing else."""
FETCH_WAIT_MS, MORE_WAIT_MS = 200, 100
FETCH_BYTES = 1 * 1024 * 1024
"""Of one partition at once. As much of each lies unread while a batch is worked out."""
STALL_SECONDS = 45.0
"""A consumer that is behind and yet gets nothing for so long has come to grief inside; a new one is made."""
AWAY_SECONDS = 30.0
"""After so long without Kafka the rest goes on with what is known. Before, the events that wait may know better."""
ENDS_SECONDS = 5.0
TELL_SECONDS = 30.0
"""So often the store is told how far we are though nothing has changed: somebody may have told it otherwise."""
SEND_SECONDS, STOP_SECONDS = 30.0, 10.0
TOPIC_EXISTS = 36


@dataclass(frozen=True, slots=True, repr=False)
class KafkaAccess:
    """How to reach the brokers."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if "SSL" in self.security_protocol:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
            options["ssl_context"] = context
        if "SASL" in self.security_protocol:
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options


class Batch(NamedTuple):
    """Some of a topic's records, and how far one is with them."""

    events: list[RawEvent]
    next_offsets: dict[int, int]
    read: int
    total: int


class Place(NamedTuple):
    """Where a partition is read on, and where it ends; ``None``: Kafka does not say at present."""

    position: int
    end: int | None

    @property
    def lag(self) -> int | None:
        return None if self.end is None else max(0, self.end - self.position)


class KafkaEvents:
    """The consumer of the events topic."""

    def __init__(
        self,
        access: KafkaAccess,
        topic: str,
        group: str,
        prepare: Callable[[], Awaitable[None]],
        clock: Clock,
        intake: Intake,
        on_progress: Callable[[Mapping[int, int]], None],
    ) -> None:
        self._access = access
        self.topic = topic
        self._group = group
        self._prepare = prepare
        self._clock = clock
        self._intake = intake
        self._on_progress = on_progress
        self.problem: str | None = "not connected yet"
        """Why no events are read at present; ``None`` while they are."""
        self.is_behind = True
        """There is more to read; as long as it was never found out, there may be."""
        self._got_on_at = 0.0
        """When events were last stored, or there were none to read; by the loop's clock."""

    async def run(self) -> None:
        """Read for ever; start anew, with growing pauses, whenever the brokers are lost."""
        loop, pause = asyncio.get_running_loop(), 0.5
        self._got_on_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._prepare()
                await self._consume()
            except (KafkaError, TimeoutError, Transient) as error:
                if self.problem is None:
                    pause = 0.5  # it has worked meanwhile
                self.problem = f"Kafka is away: {type(error).__name__}"
                if loop.time() > self._got_on_at + AWAY_SECONDS:
                    self.is_behind = False
                log.warning("kafka_away", error=str(error) or "nothing comes any more", retry_in_seconds=pause)
            await self._clock.sleep(pause)
            pause = min(30.0, pause * 2)

    async def _consume(self) -> None:
        consumer = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES,
            max_poll_interval_ms=600_000,
            session_timeout_ms=10_000,
            request_timeout_ms=20_000,
            **self._access.options(),
        )
        try:
            async with asyncio.timeout(STALL_SECONDS) as patience:
                await consumer.start()
                seek = _Seek(consumer, self._intake)
                consumer.subscribe([self.topic], listener=seek)
                self.problem = None
                await self._read(consumer, seek, patience)
        finally:
            await _stop(consumer)

    async def _read(self, consumer: AIOKafkaConsumer, seek: _Seek, patience: asyncio.Timeout) -> None:
        loop, told, told_at = asyncio.get_running_loop(), dict[int, Place](), 0.0
        while True:
            turn = seek.turn
            events, read = await self._fetch(consumer, seek)
            if seek.failure is not None:
                raise KafkaError(f"where to read on could not be found out: {seek.failure}")
            if not read and not seek.is_done:
                continue
            places = await self._places(consumer)
            is_news = places != told or loop.time() > told_at + TELL_SECONDS
            if read or (is_news and seek.turn == turn):
                left = STALL_SECONDS if read else (patience.when() or 0.0) - loop.time()
                patience.reschedule(None)  # the store may be away for as long as it likes
                await self._store(events, {} if read else places, places)
                patience.reschedule(loop.time() + left)
            del events  # or two batches are held while the next one grows
            if read:
                self._got_on_at = loop.time()
                await consumer.commit(read)
                told = _places_stored(told, places, read)
            elif is_news and seek.turn == turn:
                told, told_at = places, loop.time()  # until a marker is passed over, or there is more to come
            lags = {number: place.lag for number, place in places.items()}
            self._on_progress({number: lag for number, lag in lags.items() if lag is not None})
            if all(lag == 0 for lag in lags.values()):
                self.is_behind, self._got_on_at = False, loop.time()
                patience.reschedule(loop.time() + STALL_SECONDS)

    async def _fetch(
        self, consumer: AIOKafkaConsumer, seek: _Seek
    ) -> tuple[list[RawEvent], dict[TopicPartition, int]]:
        """What has come, and where it ends; of a backlog, as much as a batch may hold."""
        loop, read = asyncio.get_running_loop(), dict[TopicPartition, int]()
        events, keys, weight, until, wait_ms = list[RawEvent](), set[bytes | None](), 0, 0.0, FETCH_WAIT_MS
        while len(events) < MAX_EVENTS and len(keys) < MAX_CUSTOMERS and weight < MAX_BYTES:
            fetched = await consumer.getmany(timeout_ms=wait_ms, max_records=CHUNK)
            for place, records in fetched.items():
                events += records
                keys.update([record.key for record in records])
                weight += sum([len(record.value or b"") for record in records])
                read[place] = records[-1].offset + 1
            until = until or loop.time() + MAX_SECONDS
            if fetched:
                self.is_behind = await _has_more(consumer)
            if not (fetched and self.is_behind) or loop.time() > until:
                break
            wait_ms = MORE_WAIT_MS
            await asyncio.sleep(0)  # what lies here already is given without a pause
        return events, read

    async def _store(
        self, events: Sequence[RawEvent], positions: Mapping[int, Place], places: Mapping[int, Place]
    ) -> None:
        """Try until the store takes what was read, and how far we are.

        Where nothing was read, all that lies before our places is stored; else the records themselves say how far
        that is.
        """
        ends = {number: place.end for number, place in places.items() if place.end is not None}
        passed = {number: place.position for number, place in positions.items()}
        pause = 0.2
        while True:
            try:
                await self._intake.ingest(self.topic, events, ends, passed)
                return
            except StoreConflict:
                continue
            except Exception as error:  # the batch is kept and tried until the store takes it
                self.problem = f"the store takes no events: {type(error).__name__}"
                log.exception("batch_not_stored", held=len(events), retry_in_seconds=pause)
                await self._clock.sleep(pause)
                pause = min(30.0, pause * 2)

    async def _places(self, consumer: AIOKafkaConsumer) -> dict[int, Place]:
        """How far we are, by partition, for the partitions that are ours.

        Kafka is asked, since what it told with the records is older than what has arrived in the other
        partitions meanwhile, and the guard would judge a part of a burst as the whole (S9).
        """
        assigned = consumer.assignment()
        if not assigned:
            if consumer.partitions_for_topic(self.topic) is None:
                self.problem = f"topic {self.topic} does not exist: create it, or set SYNCD_KAFKA__CREATE_TOPICS=true"
            return {}
        try:
            async with asyncio.timeout(ENDS_SECONDS):
                ends = await consumer.end_offsets(list(assigned))
            self.problem = None
        except TimeoutError:  # one partition without a leader must not hold up the others
            self.problem = f"Kafka does not say where the partitions of {self.topic} end"
            ends = {}
        mine = assigned & consumer.assignment()  # some may have been taken meanwhile
        return {tp.partition: Place(await consumer.position(tp), ends.get(tp)) for tp in mine}


class _Seek(ConsumerRebalanceListener):  # type: ignore[misc]
    """On assignment, go to where the database says we are.

    aiokafka swallows what is raised here, so the reading loop asks for ``failure``.
    """

    def __init__(self, consumer: AIOKafkaConsumer, intake: Intake) -> None:
        self._consumer = consumer
        self._intake = intake
        self.failure: Exception | None = None
        self.is_done = False
        """The group has given out its partitions, perhaps none of them to us."""
        self.turn = 0
        """Counts how often partitions were taken or given."""

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Nothing is held back for a partition: what was fetched is stored or fetched again."""
        self.is_done = False
        self.turn += 1

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self.turn += 1
        try:
            await self._seek(list(assigned))
            self.is_done = True
        except Exception as error:
            self.failure = error

    async def _seek(self, assigned: list[TopicPartition]) -> None:
        if not assigned:
            return

        async def offsets() -> dict[int, range]:
            starts = await self._consumer.beginning_offsets(assigned)
            ends = await self._consumer.end_offsets(assigned)
            return {place.partition: range(starts[place], ends[place]) for place in assigned}

        topic = assigned[0].topic  # one is subscribed to
        positions = await self._intake.take_over(topic, offsets)
        for place in assigned:
            self._consumer.seek(place, positions[place.partition])


@asynccontextmanager
async def _reader(access: KafkaAccess, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """All partitions of a topic, in no group, so nothing is committed. A ``UserError`` where there is none."""
    partitions = await _partitions(access, topic)
    # What retention took meanwhile is gone; the default would pass over all that is still there.
    consumer = AIOKafkaConsumer(
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **access.options(),
    )
    try:
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in partitions])
        yield consumer
    except KafkaError as error:
        raise UserError(f"Kafka can't be read: {error}") from None
    finally:
        await _stop(consumer)


async def _partitions(access: KafkaAccess, topic: str) -> list[int]:
    admin = AIOKafkaAdminClient(**access.options())
    try:
        await admin.start()
        found = await admin.describe_topics([topic])
    except KafkaError as error:
        raise UserError(f"Kafka can't be read: {error}") from None
    finally:
        await admin.close()
    partitions = [part["partition"] for about in found if not about["error_code"] for part in about["partitions"]]
    if not partitions:
        raise UserError(f"there is no topic {topic}")
    return sorted(partitions)


async def spans_of(
    access: KafkaAccess, topic: str, since: Millis | None = None, until: Millis | None = None
) -> dict[int, range]:
    """The offsets that each partition has now; of records that Kafka got from ``since`` on and before ``until``."""
    async with _reader(access, topic) as consumer:
        places = sorted(consumer.assignment())
        starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        for bound, at in ((starts, since), (ends, until)):
            found = await consumer.offsets_for_times(dict.fromkeys(places, max(0, at))) if at is not None else {}
            # None: no record is as young.
            bound.update({place: ends[place] if it is None else it.offset for place, it in found.items()})
        return {place.partition: range(starts[place], ends[place]) for place in places}


async def read_spans(access: KafkaAccess, topic: str, spans: Mapping[int, range]) -> AsyncIterator[Batch]:
    """The records of these offsets, by partition, as far as the topic still has them."""
    loop = asyncio.get_running_loop()
    async with _reader(access, topic) as consumer:
        places = {place: spans[place.partition] for place in consumer.assignment() if place.partition in spans}
        for place, span in places.items():
            consumer.seek(place, span.start)
        positions = {place: span.start for place, span in places.items()}
        total, moved = sum(map(len, places.values())), loop.time()
        while left := [place for place, span in places.items() if positions[place] < span.stop]:
            fetched = await consumer.getmany(*left, timeout_ms=FETCH_WAIT_MS, max_records=PAST)
            events = [r for p, records in fetched.items() for r in records if r.offset in places[p]]
            before, positions = positions, {place: await consumer.position(place) for place in places}
            if positions != before:
                moved = loop.time()
            elif loop.time() - moved > STALL_SECONDS:
                raise UserError(f"Kafka gives nothing of {topic} any more: look at its brokers, then try again")
            after = {place.partition: min(at, places[place].stop) for place, at in positions.items()}
            if events:
                behind = sum(max(0, places[place].stop - after[place.partition]) for place in places)
                yield Batch(events, after, total - behind, total)


def _places_stored(
    before: Mapping[int, Place], places: Mapping[int, Place], read: Mapping[TopicPartition, int]
) -> dict[int, Place]:
    """What the store knows now: where all of them end, and of those that were read, how far."""
    behind = {tp.partition: offset for tp, offset in read.items()}
    stored = {n: behind.get(n, before[n].position if n in before else None) for n in places}
    return {n: place for n, place in places.items() if place.position == stored[n]}


async def _has_more(consumer: AIOKafkaConsumer) -> bool:
    """By what Kafka told with the last records: to ask it each time would take longer than to read them."""
    ends = {place: consumer.last_stable_offset(place) for place in consumer.assignment()}
    return any([end is not None and await consumer.position(place) < end for place, end in ends.items()])


class KafkaPosts:
    """The producer: idempotent, and sure that all replicas of the log have a record before it returns."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def send(self, messages: Sequence[Message]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                producer = await self._started()
                waiting = []
                for m in messages:
                    try:
                        sent = await producer.send(m.topic, key=m.key, value=m.value, headers=list(m.headers))
                        waiting.append(sent)
                    except MessageSizeTooLargeError:  # it would never be taken, and holds up all behind it
                        log.error("message_too_large", topic=m.topic, bytes=len(m.value or b""))
                await asyncio.gather(*waiting)
        except (KafkaError, TimeoutError) as error:
            if not getattr(error, "retriable", False) and not isinstance(error, KafkaTimeoutError):
                await self.close()  # it has come to grief, or lost its place in the order: the next is a new one
            raise Transient(f"Kafka takes no messages: {type(error).__name__}") from None

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    enable_idempotence=True, linger_ms=5, request_timeout_ms=20_000, **self._access.options()
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer


class KafkaSink:
    """Commands to the CRM as Kafka records; the CRM answers by its ordinary events."""

    def __init__(self, posts: Posts, topic: str, mapping: CrmMapping) -> None:
        self._posts = posts
        self._topic = topic
        self._mapping = mapping

    async def deliver(self, command: Command) -> CrmAnswer | None:
        message = command_message(self._topic, command, self._mapping)
        if trace := spans.current():
            message = replace(message, headers=(*message.headers, (spans.HEADER, trace.encode())))
        await self._posts.send([message])
        return None


_left = set[asyncio.Future[None]]()
"""Clients that would not stop. They can't be cancelled either: aiokafka waits on."""


async def _stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    stopping = asyncio.ensure_future(client.stop())
    _left.add(stopping)
    stopping.add_done_callback(_left.discard)
    stopping.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody to say goodbye to
    ended, _ = await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not ended:
        log.warning("kafka_client_left", kind=type(client).__name__)
        connections = client.client if isinstance(client, AIOKafkaProducer) else client._client
        await connections.close()  # what is left of it must not keep partitions by its heartbeats


async def missing_topics(access: KafkaAccess, topics: Sequence[str]) -> list[str]:
    """Which of these topics the brokers don't have."""
    admin = AIOKafkaAdminClient(**access.options())
    try:
        await admin.start()
        known = set(await admin.list_topics())
    finally:
        await admin.close()
    return [topic for topic in topics if topic not in known]


async def create_topics(access: KafkaAccess, topics: Mapping[str, bool], partitions: int = 6) -> None:
    """Create the topics that are missing, in three copies where there are as many brokers.

    ``topics``: name to whether it is compacted.
    """
    wanted = await missing_topics(access, list(topics))
    admin = AIOKafkaAdminClient(**access.options())
    try:
        await admin.start()
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = min(3, brokers)
        new = [
            NewTopic(name, partitions, copies, topic_configs={"cleanup.policy": "compact"} if topics[name] else {})
            for name in wanted
        ]
        answer = await admin.create_topics(new) if new else None
    finally:
        await admin.close()
    for name, code, *_ in answer.topic_errors if answer is not None else []:
        if code not in (0, TOPIC_EXISTS):
            raise Transient(f"Kafka did not create topic {name}: {for_code(code).__name__}")
        log.info("topic_created", topic=name)
