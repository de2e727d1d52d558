"""Kafka Connect with Debezium's JDBC sink, in upsert mode: what people would use to bring events into a table.

A standalone worker from Maven Central, on the loopback, with the reduction buffer and polls of 5,000. Of the settings
that were tried on two cores none was faster beyond the spread (``docs/measurements.md``); others can be tried:
``BENCH_ONLY=connect BENCH_TASKS=4 BENCH_BATCH=500 BENCH_HEAP=512m python -m bench.ingest``.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.parts.kafka import LOG4J, CannotStart, fetched, free_port

HERE = Path(__file__).parent
TASKS, BATCH = os.environ.get("BENCH_TASKS", "2"), os.environ.get("BENCH_BATCH", "2000")
HEAP = os.environ.get("BENCH_HEAP", "1g")

JACKSON = "com.fasterxml.jackson.core,com.fasterxml.jackson.datatype"
"""Those of the worker serve; with two of them tasks die."""


def jars() -> Path:
    """The folders ``worker`` and ``plugins``."""
    sink = ("-P", "sink", "-DincludeScope=runtime", f"-DexcludeGroupIds={JACKSON}")
    return fetched("connect-4.3.1", HERE / "pom.xml", {"worker": ("-P", "worker"), "plugins/jdbc": sink})


class Connect:
    """One worker; one connector at a time, from a topic to a table of the same name."""

    def __init__(self, folder: Path, kafka: str) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._rest = f"http://127.0.0.1:{free_port()}"
        (folder / "log4j2.yaml").write_text(LOG4J)
        worker = {
            "bootstrap.servers": kafka,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "offset.storage.file.filename": folder / "offsets",
            "plugin.path": jars() / "plugins",
            "listeners": self._rest,
            "consumer.max.poll.records": 5000,
            "consumer.auto.offset.reset": "earliest",
        }
        (folder / "worker.properties").write_text("".join(f"{name}={value}\n" for name, value in worker.items()))
        config, libraries = f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}", f"{jars() / 'worker'}/*"
        main = ["org.apache.kafka.connect.cli.ConnectStandalone", str(folder / "worker.properties")]
        self._log = (folder / "connect.log").open("ab")
        self.process = subprocess.Popen(
            ["java", f"-Xms{HEAP}", f"-Xmx{HEAP}", config, "-cp", libraries, *main],
            stdout=self._log,
            stderr=self._log,
        )
        self._until("the worker answers", lambda: self._ask("GET", "/") is not None)

    def begin(self, topic: str, jdbc_url: str, fields: Sequence[str]) -> None:
        """Its tasks run, and wait for events."""
        texts = [{"type": "string", "optional": True, "field": name} for name in fields]
        customer = {"type": "struct", "optional": True, "field": "customer", "fields": texts}
        schema = {"type": "struct", "optional": False, "fields": [customer]}
        config = {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": TASKS,
            "topics": topic,
            "connection.url": jdbc_url,
            "connection.username": "postgres",
            "connection.password": "",
            "insert.mode": "upsert",
            "primary.key.mode": "record_key",
            "primary.key.fields": "id",
            "schema.evolution": "basic",
            "collection.name.format": topic,
            "use.reduction.buffer": "true",
            "batch.size": BATCH,
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "true",
            "value.converter.schema.content": json.dumps(schema),
            "transforms": "row,id",
            "transforms.row.type": "org.apache.kafka.connect.transforms.ExtractField$Value",
            "transforms.row.field": "customer",
            "transforms.id.type": "org.apache.kafka.connect.transforms.HoistField$Key",
            "transforms.id.field": "id",
        }
        self._topic = topic
        self._ask("POST", "/connectors", {"name": topic, "config": config})
        self._until("its tasks run", lambda: self.states() == ["RUNNING"] * (1 + int(TASKS)))

    def pause(self) -> None:
        self._ask("PUT", f"/connectors/{self._topic}/pause")
        self._until("its tasks are paused", lambda: self.states() == ["PAUSED"] * (1 + int(TASKS)))

    def resume(self) -> None:
        self._ask("PUT", f"/connectors/{self._topic}/resume")

    def end(self) -> None:
        self._ask("DELETE", f"/connectors/{self._topic}")

    def states(self) -> list[str]:
        return [part["state"] for part in self._parts()]

    def problems(self) -> list[str]:
        """Why tasks died."""
        return [part["trace"] for part in self._parts() if "trace" in part]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._log.close()

    def _parts(self) -> list[dict[str, str]]:
        status = self._ask("GET", f"/connectors/{self._topic}/status")
        return [status["connector"], *status["tasks"]] if status else []

    def _until(self, what: str, probe: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not probe():
            if time.monotonic() > deadline or self.process.poll() is not None:
                said = (self._folder / "connect.log").read_text(errors="replace")
                raise CannotStart(f"not seen: {what}\n{said[-3_000:]}")
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._rest}{path}", data, head, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read() or b"{}")
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code not in (404, 409):
                raise CannotStart(error.read().decode()) from error
            return None  # not up yet
