"""Several replicas, one behaviour (S11-S13); and each of the three sides away, at the start and later (S14)."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.kafka import Kafka
from tests.parts.postgres import Postgres
from tests.parts.world import World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer

REPLICAS = ("one", "two", "three")
PREVIOUS = Path(__file__).parents[1] / "parts" / "previous.zip"


@pytest.fixture
def own_postgres(tmp_path: Path, postgres_server: str) -> Iterator[Postgres]:
    own = Postgres(tmp_path / "pg")
    yield own
    own.stop()


def three_daemons(make_world: MakeWorld, dialect: str = "live", **options: Any) -> World:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=options.pop("calls_per_minute", 600))
    for name in REPLICAS:
        world.start(name, **options)
    return world


def companies(world: World) -> set[str]:
    return {row["company"] for row in world.ion.customers().values()}


def wait_for_companies(world: World, wanted: set[str]) -> None:
    eventually(lambda: wanted <= companies(world), f"{len(wanted)} edits in ION", 60)


def address_of(world: World, name: str) -> str:
    return str(json.loads(world.daemons[name].wait_for("admin_listens"))["address"])


def ready(world: World, name: str) -> tuple[int, dict[str, str]]:
    """The answer of a replica's readiness probe; liveness must be given all the while."""
    address = address_of(world, name)
    assert http("GET", f"{address}/livez") == {"alive": True}
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=15) as answer:
            return answer.status, json.load(answer)["problems"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["problems"]


def test_three_replicas_start_at_once_and_refresh_one_token(make_world: MakeWorld, dialect: str) -> None:
    world = make_world(dialect=dialect, customers=5, calls_per_minute=600)
    world.start_at_once(REPLICAS)
    for number in range(9):
        world.topics.edit(f"C{number}", **customer(f"Company {number}"))
    eventually(lambda: world.count_linked() == 9, "everybody is linked", 60)
    assert world.ion.state()["refreshes"] == 1, "one of them refreshed, the others took what it got"
    for round_ in range(3):
        http("POST", f"{world.ion.url}/_sim/tokens/expire-access")
        for number in range(9):  # all of them want a token at this instant
            world.topics.edit(f"C{number}", company=f"Renamed {round_} {number}")
        wait_for_companies(world, {f"Renamed {round_} {number}" for number in range(9)})
        assert world.ion.state()["refreshes"] == 2 + round_
    assert world.json("token", "status")["refused"] is None
    for name in REPLICAS:
        eventually(lambda name=name: ready(world, name) == (200, {}), f"{name} is ready, whoever sweeps", 20)
    assert world.ion.state()["busiest_minute"] <= 600


def test_a_replica_that_was_stopped_longer_than_its_leases_comes_back_and_changes_nothing(
    make_world: MakeWorld,
) -> None:
    world = three_daemons(make_world)
    for number in range(20):
        world.topics.edit(f"C{number}", **customer(f"Company {number}"))
    eventually(lambda: world.count_linked() == 20, "everybody is linked", 60)
    world.wait_until_idle()
    world.ion.fault("slow", "update", count=6, seconds=2)
    for number in range(20):
        world.topics.edit(f"C{number}", company=f"First {number}")
    time.sleep(1)
    world.daemons["two"].popen.send_signal(signal.SIGSTOP)
    for number in range(20):
        world.topics.edit(f"C{number}", company=f"Last {number}")
    time.sleep(20)
    world.daemons["two"].popen.send_signal(signal.SIGCONT)
    names = {f"Last {number}" for number in range(20)}
    wait_for_companies(world, names)
    world.wait_until_idle()
    time.sleep(5)
    assert companies(world) == names
    assert len(world.ion.journal("create")) == 20
    assert len(world.ion.journal("update")) <= 45, "at most two for a customer, and the few that were in flight"
    assert world.commands() == []


def test_a_crowd_of_edits_costs_a_write_each_and_a_listing(make_world: MakeWorld, dialect: str) -> None:
    world = three_daemons(make_world, dialect)
    for number in range(40):
        world.topics.edit(f"C{number}", **customer(f"Company {number}"))
    eventually(lambda: world.count_linked() == 40, "everybody is linked", 90)
    world.wait_until_idle()
    before = len(world.ion.journal())
    for number in range(40):
        world.topics.edit(f"C{number}", company=f"Renamed {number}")
    wait_for_companies(world, {f"Renamed {number}" for number in range(40)})
    calls = Counter(entry["operation"] for entry in world.ion.journal()[before:])
    assert calls["update"] == 40
    assert calls["get"] <= 10, "but for those who came before it was seen to be a crowd"


def test_partitions_that_move_repeat_no_effect(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start("one")
    for round_ in range(4):
        for number in range(12):
            world.topics.edit(f"C{number}", **customer(f"Company {number}", title=f"Title {round_}"))
        world.start(f"late-{round_}")  # each that comes takes partitions from the others
    eventually(lambda: world.count_linked() == 12, "everybody is linked", 60)
    eventually(lambda: {row["title"] for row in world.ion.customers().values()} == {"Title 3"}, "the last titles", 60)
    world.wait_until_idle()
    assert len(world.ion.customers()) == 12
    assert len(world.ion.journal("create")) == 12
    assert world.json("dead-letters", "list") == []


def test_everything_may_be_away_when_it_starts(broker: Kafka, own_postgres: Postgres, tmp_path: Path) -> None:
    world = World(
        tmp_path, broker.address, own_postgres.url, "away", dialect="live", customers=2, calls_per_minute=600
    )
    broker.kill()
    own_postgres.away()
    address, world.environ["SYNCD_ION__URL"] = world.environ["SYNCD_ION__URL"], "http://127.0.0.1:9"
    try:
        daemon = world.start("one", until="database_away")
        eventually(lambda: ready(world, "one") if daemon.popen.poll() is None else None, "probes are answered")
        code, problems = ready(world, "one")
        assert (code, list(problems)) == (503, ["database"])
        with urllib.request.urlopen(f"{address_of(world, 'one')}/metrics", timeout=15) as answer:
            assert 'syncd_up{part="database"} 0.0' in answer.read().decode()
        assert world.stop(name="one") == 0, "who has not begun yet ends at once too"
        daemon = world.start("one", until="database_away")
        own_postgres.back()
        daemon.wait_for("daemon_started")
        eventually(lambda: {"kafka", "ion"} <= set(ready(world, "one")[1]), "what else is away is told")
        broker.start()
        eventually(lambda: "kafka" not in ready(world, "one")[1], "Kafka is found", 60)
        world.topics.edit("C1", **customer())
        eventually(lambda: world.look("status")["pending"]["decide"] == 1, "the event is taken in all the same")
        world.stop(name="one")
        world.environ["SYNCD_ION__URL"] = address
        world.start("one")
        world.linked("C1")
        assert eventually(lambda: ready(world, "one")[0] == 200, "it is ready")
    finally:
        world.close()


def test_each_side_goes_away_and_work_goes_on_where_it_can(
    broker: Kafka, own_postgres: Postgres, tmp_path: Path
) -> None:
    world = World(
        tmp_path, broker.address, own_postgres.url, "away", dialect="live", customers=0, calls_per_minute=600
    )
    try:
        world.start("one")
        world.topics.edit("C1", **customer())
        ion_id = world.linked("C1")

        broker.kill()
        world.ion.edit(ion_id, title="While Kafka is away")
        eventually(lambda: "kafka" in ready(world, "one")[1], "Kafka is missed", 60)
        eventually(lambda: world.look("status")["commands_open"] == 1, "ION's edit waits for Kafka")
        broker.start()
        eventually(lambda: len(world.commands()) >= 1, "and goes out once it is back", 60)

        own_postgres.away()
        eventually(lambda: "database" in ready(world, "one")[1], "the database is missed", 60)
        before = len(world.ion.journal())
        time.sleep(5)
        assert len(world.ion.journal()) == before, "nobody calls while the budget can't be asked for"
        world.topics.edit("C1", company="While the database was away")
        own_postgres.back()
        eventually(lambda: world.ion.customers()[ion_id]["company"] == "While the database was away", "the edit", 90)
        eventually(lambda: ready(world, "one")[0] == 200, "it is ready", 60)
        said = world.daemons["one"].said()
        assert len(said.splitlines()) < 400, "no storm in the log"
    finally:
        world.close()


def test_the_previous_version_runs_beside_this_one(make_world: MakeWorld, tmp_path: Path) -> None:
    """A rolling upgrade: the old version has the database first, and may even start anew on the new schema."""
    with zipfile.ZipFile(PREVIOUS) as packed:
        packed.extractall(tmp_path / "previous")
    world = make_world(dialect="live", customers=0, calls_per_minute=600)

    def start_old(name: str) -> None:
        program = (sys.executable, "-P", "-m", "syncd")
        world.start_at_once([name], program=program, PYTHONPATH=str(tmp_path / "previous"))

    start_old("old")
    world.topics.edit("C1", **customer())
    ion_id = eventually(lambda: world.ion.customers() and next(iter(world.ion.customers())), "the old one works", 60)
    old = world.syncd("db", "current", "--json")
    assert json.loads(old.stdout)["current"] < json.loads(old.stdout)["newest"], "make previous.zip anew"
    world.start("new")
    assert json.loads(world.syncd("db", "current", "--json").stdout)["current"] == json.loads(old.stdout)["newest"]
    for number in range(2, 8):
        world.topics.edit(f"C{number}", **customer(f"Company {number}"))
    eventually(lambda: len(world.json("links", "list")) == 7, "both work", 60)
    world.stop(signal.SIGKILL, "old")
    start_old("old-again")
    world.stop(name="new")
    world.topics.edit("C1", company="By the old one alone")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "By the old one alone", "the edit", 60)
    world.ion.edit(ion_id, email="ion@acme.example")
    eventually(world.commands, "ION's edit is asked of the CRM", 60)
    world.start("new")
    world.topics.edit("C2", company="By both")
    wait_for_companies(world, {"By both"})
    assert len(world.ion.customers()) == 7
