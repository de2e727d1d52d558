"""A whole world for system tests: real Kafka, a real database, the simulated ION, daemons as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import asyncpg
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

T = TypeVar("T")
LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
SYNCD = str(Path(sys.executable).parent / "syncd")


def http(method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", **(headers or {})}, method=method
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or b"null")


def eventually(probe: Callable[[], T], what: str, seconds: float = 30.0, every: float = 0.05) -> T:
    """The first true answer of the probe, asked ``every`` seconds at most; fails with its last answer."""
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        last = probe()
        if last:
            return last
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last answer: {last!r}")
        time.sleep(max(every, time.monotonic() - asked))  # a probe that costs much is asked seldom


class Process:
    """A `syncd` command as a process of its own, its output kept in a file."""

    def __init__(
        self, arguments: list[str], environ: dict[str, str], log: Path, program: Sequence[str] = (SYNCD,)
    ) -> None:
        self.log = log
        self._file = log.open("ab")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
        self.popen = subprocess.Popen(
            [*program, *arguments], env={**clean, **environ}, stdout=self._file, stderr=self._file
        )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 20.0) -> str:
        def line() -> str | None:
            if self.popen.poll() not in (None, 0) and text not in self.said():
                raise AssertionError(f"the process ended with {self.popen.returncode}:\n{self.said()[-3000:]}")
            return next((line for line in self.said().splitlines() if text in line), None)

        return eventually(line, f"{text!r} in the output:\n{self.said()[-3000:]}", seconds) or ""

    def wait(self, seconds: float) -> int:
        code = self.popen.wait(seconds)
        self._file.close()
        return code

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40.0) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.wait(seconds)


class SimulatedIon:
    def __init__(self, folder: Path, **options: Any) -> None:
        arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        self.process = Process(["sim", "ion", "--port", "0", *arguments], {}, folder / "ion.log")
        self.url = self.process.wait_for("listens at", 120).rsplit(" ", 1)[-1]  # to make up a million takes a while

    def customers(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in http("GET", f"{self.url}/_sim/customers")}

    def add(self, **values: Any) -> str:
        return str(http("POST", f"{self.url}/_sim/customers", values)["id"])

    def edit(self, ion_id: str, **changes: Any) -> None:
        http("PATCH", f"{self.url}/_sim/customers/{ion_id}", changes)

    def remove(self, ion_id: str) -> None:
        http("DELETE", f"{self.url}/_sim/customers/{ion_id}")

    def heal(self) -> None:
        http("DELETE", f"{self.url}/_sim/faults")

    def fault(self, kind: str, operation: str = "*", **more: Any) -> None:
        http("POST", f"{self.url}/_sim/faults", {"kind": kind, "operation": operation, **more})

    def journal(self, operation: str | None = None) -> list[dict[str, Any]]:
        entries = http("GET", f"{self.url}/_sim/journal")
        return [entry for entry in entries if operation in (None, entry.get("operation"))]

    def state(self) -> dict[str, Any]:
        return dict(http("GET", f"{self.url}/_sim/state"))


class Topics:
    """The tests' own end of Kafka, by another client library than the product's."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int = 3) -> None:
        self.bootstrap = bootstrap
        self.events = f"{prefix}.customers"
        self.commands = f"{prefix}.commands"
        self.links = f"{prefix}.links"
        self.dead_letters = f"{prefix}.dead-letters"
        self._partitions = partitions
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._admin.create_topics([NewTopic(self.events, partitions, 1)])[self.events].result(30)
        # What is sent between two flushes arrives at once, however slowly it is made.
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5_000})

    def send(
        self,
        key: str | bytes | None,
        value: object,
        headers: list[tuple[str, bytes]] | None = None,
        topic: str | None = None,
    ) -> None:
        data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        self._producer.produce(topic or self.events, value=data, key=key, headers=headers or [])

    def send_in_transaction(self, key: str, value: object, *, is_committed: bool) -> None:
        """As a CRM with exactly-once delivery does; what is aborted stays in the topic all the same."""
        options = {"bootstrap.servers": self.bootstrap, "transactional.id": self.events}
        producer = Producer(options)
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(self.events, value=json.dumps(value).encode(), key=key)
        producer.flush(30)
        if is_committed:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def edit(self, crm_id: str, at: str | None = None, **customer: Any) -> None:
        """A plain change event."""
        event = {"type": "changed", "id": crm_id, "customer": customer}
        if at is not None:
            event["time"] = at
        self.send(crm_id, event)
        self.flush()

    def forget_all(self) -> None:
        """As retention does with what is old enough."""
        places = [TopicPartition(self.events, number, -1) for number in range(self._partitions)]  # -1: to its end
        for done in self._admin.delete_records(places).values():
            done.result(30)

    def read(self, topic: str) -> list[tuple[bytes | None, Any]]:
        """All records of a topic, with JSON values parsed."""
        return [(key, value) for key, value, _ in self.read_with_headers(topic)]

    def read_with_headers(self, topic: str) -> list[tuple[bytes | None, Any, dict[str, str]]]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.auto.commit": False})
        found: list[tuple[bytes | None, Any, dict[str, str]]] = []
        try:
            metadata = consumer.list_topics(topic, timeout=10).topics[topic]
            for partition in metadata.partitions:
                place = TopicPartition(topic, partition, 0)
                end = self._end_of(consumer, place)
                consumer.assign([place])
                offset = 0
                while offset < end:
                    message = consumer.poll(5)
                    assert message is not None
                    assert message.error() is None
                    offset = message.offset() + 1
                    value = message.value()
                    headers = {name: told.decode() for name, told in message.headers() or []}
                    found.append((message.key(), None if value is None else json.loads(value), headers))
        finally:
            consumer.close()
        return found

    def _end_of(self, consumer: Consumer, place: TopicPartition) -> int:
        """Where a partition ends; one that was made a moment ago may not have its leader yet."""
        for attempt in range(40):
            try:
                return int(consumer.get_watermark_offsets(place, timeout=10)[1])
            except KafkaException as error:
                if attempt == 39 or error.args[0].code() not in LEADERLESS:
                    raise
                time.sleep(0.25)
        raise AssertionError("unreachable")


class World:
    def __init__(
        self, folder: Path, kafka: str, database_url: str, name: str, partitions: int = 3, **ion_options: Any
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.topics = Topics(kafka, name, partitions)
        self.ion = SimulatedIon(self.folder, **ion_options)
        self.daemons: dict[str, Process] = {}
        self.environ = {
            "SYNCD_DATABASE__URL": database_url,
            "SYNCD_SECRET_KEY": "7M_p2bXJ3yqJxZr1CwJ2c1pY1Jw2b3m1rY0e8yVqLQ4=",
            "SYNCD_KAFKA__BOOTSTRAP_SERVERS": kafka,
            "SYNCD_KAFKA__GROUP_ID": name,
            "SYNCD_KAFKA__EVENTS_TOPIC": self.topics.events,
            "SYNCD_KAFKA__COMMANDS_TOPIC": self.topics.commands,
            "SYNCD_KAFKA__LINKS_TOPIC": self.topics.links,
            "SYNCD_KAFKA__DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "SYNCD_KAFKA__CREATE_TOPICS": "true",
            "SYNCD_ION__URL": self.ion.url,
            "SYNCD_ION__ACCOUNT_ID": "20481",
            "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
            "SYNCD_ION__CALLS_PER_MINUTE": str(ion_options.get("calls_per_minute", 30)),
            "SYNCD_POLL__INTERVAL_SECONDS": "1",
            "SYNCD_ADMIN__PORT": "0",
            "SYNCD_LOG__FORMAT": "json",
        }

    def start(self, name: str = "daemon", until: str = "daemon_started", **changes: str) -> Process:
        """A daemon, once it has said so much; another name is another replica."""
        self.environ.update(changes)
        [daemon] = self.start_at_once([name], until)
        return daemon

    def start_at_once(
        self, names: Sequence[str], until: str = "daemon_started", program: Sequence[str] = (SYNCD,), **changes: str
    ) -> list[Process]:
        """Several replicas, none of which waits for another."""
        for name in names:
            log = self.folder / f"{name}-{time.monotonic_ns()}.log"
            self.daemons[name] = Process(["run"], {**self.environ, **changes}, log, program)
        started = [self.daemons[name] for name in names]
        for daemon in started:
            daemon.wait_for(until)
        return started

    def stop(self, number: int = signal.SIGTERM, name: str = "daemon") -> int:
        return self.daemons.pop(name).stop(number)

    @contextmanager
    def standing_still(self, name: str = "daemon") -> Iterator[None]:
        """What happens here is all there when the daemon looks again."""
        self.daemons[name].popen.send_signal(signal.SIGSTOP)
        yield
        self.daemons[name].popen.send_signal(signal.SIGCONT)

    def close(self) -> None:
        for name in list(self.daemons):
            self.stop(signal.SIGKILL, name)
        self.ion.process.stop(signal.SIGKILL)

    @property
    def address(self) -> str:
        return str(json.loads(self.daemons["daemon"].wait_for("daemon_started"))["address"])

    def syncd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
        return subprocess.run(
            [SYNCD, *arguments],
            env={**clean, **self.environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.syncd(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def look(self, path: str) -> Any:
        """What the API of the first daemon that runs says: far cheaper to ask again and again than a command."""
        daemon = next(daemon for daemon in self.daemons.values() if daemon.popen.poll() is None)
        address = json.loads(daemon.wait_for("daemon_started"))["address"]
        token = self.environ.get("SYNCD_ADMIN__TOKEN")
        return http("GET", f"{address}/v1/{path}", headers={"Authorization": f"Bearer {token}"} if token else {})

    def links(self) -> dict[str, str]:
        if not any(daemon.popen.poll() is None for daemon in self.daemons.values()):
            return {link["crm_id"]: link["ion_id"] for link in self.json("links", "list", "--limit", "10000")}
        found, after = dict[str, str](), ""
        while page := self.look(f"links?limit=1000&after={quote(after)}"):
            found |= {link["crm_id"]: link["ion_id"] for link in page}
            after = page[-1]["crm_id"]
        return found

    def count_linked(self) -> int:
        return int(self.look("status")["links"].get("linked", 0))

    def linked(self, crm_id: str, seconds: float = 30.0) -> str:
        def ion_id() -> str | None:
            return next(
                (str(link["ion_id"]) for link in self.look("links?limit=1000") if link["crm_id"] == crm_id), None
            )

        return eventually(ion_id, f"{crm_id} is linked", seconds) or ""

    def metrics(self) -> str:
        """The page as Prometheus reads it."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def commands(self) -> list[dict[str, Any]]:
        return [value for _, value in self.topics.read(self.topics.commands)]

    def sql(self, statement: str) -> list[Any]:
        """The first column of what PostgreSQL answers, as nobody but a test should ask it."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.environ["SYNCD_DATABASE__URL"])
            try:
                return [row[0] for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as thread:  # a browser's test has a loop of its own
            return thread.submit(asyncio.run, ask()).result()

    def is_idle(self) -> bool:
        status = self.look("status")
        return not any(status["pending"].values()) and not status["unknown_outcomes"]

    def wait_until_idle(self, seconds: float = 60.0) -> None:
        eventually(self.is_idle, "nothing is pending", seconds)
