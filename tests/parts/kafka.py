"""A real Apache Kafka for the tests: one node, KRaft, from Maven Central artifacts, on the loopback.

``python -m tests.parts.kafka`` fetches it ahead of time (`make setup-kafka`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "syncd-tests"
LOG4J = """\
Configuration:
  Appenders:
    Console: {name: out, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: out}}
"""
HEAP = "-Xmx512m"


class CannotStart(RuntimeError):
    """The broker can't be had on this machine."""


def jars() -> Path:
    """The broker's jars."""
    return fetched("kafka-4.3.1", HERE / "pom.xml", {"": ()})


def fetched(name: str, pom: Path, folders: Mapping[str, Sequence[str]]) -> Path:
    """What a pom names, fetched once a machine and kept outside the tree: by folder, what Maven is told besides."""
    if shutil.which("java") is None:
        raise CannotStart("Java 17 is not installed")
    place = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name.partition('-')[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            if shutil.which("mvn") is None:
                raise CannotStart("Maven is not installed")
            for folder, options in folders.items():
                command = ["mvn", "-q", "-B", "-f", str(pom), *options, "dependency:copy-dependencies"]
                done = subprocess.run(
                    [*command, f"-DoutputDirectory={place / folder}"], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise CannotStart(f"Maven could not fetch {name}: {done.stdout[-500:]}")
            (place / "done").touch()
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Kafka:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = folder / "server.properties"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.yaml").write_text(LOG4J)
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.folder / "data",
            "num.partitions": 3,
            "offsets.topic.num.partitions": 3,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "broker.session.timeout.ms": 6000,
            "auto.create.topics.enable": "false",
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        identity = uuid.uuid4().hex[:22]
        arguments = ["format", "-t", identity, "-c", str(self._properties)]
        subprocess.run(self._java("kafka.tools.StorageTool", *arguments), check=True, capture_output=True)

    def start(self) -> None:
        with (self.folder / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)), stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_up()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def _java(self, main: str, *arguments: str) -> list[str]:
        config = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}"
        speed = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return ["java", HEAP, *speed, config, "-cp", f"{jars()}/*", main, *arguments]

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise CannotStart((self.folder / "kafka.log").read_text()[-2000:])
            try:
                with socket.create_connection(("127.0.0.1", self.port), 0.5):
                    return
            except OSError:
                time.sleep(0.1)
        raise CannotStart("Kafka did not come up within 90 s")


@contextmanager
def own_kafka(folder: Path) -> Iterator[Kafka]:
    """A broker that runs, and may be killed."""
    own = Kafka(folder)
    own.prepare()
    own.start()
    try:
        yield own
    finally:
        own.kill()


if __name__ == "__main__":
    print(f"Kafka is at {jars()}")
