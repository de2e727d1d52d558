"""The database is lost and put together again: same links, no create, no needless write (S15)."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.parts.world import World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer

COUNT = 8


def lose_the_database(world: World, tmp_path: Path) -> None:
    """An empty one in its place, and a new refresh token: the last one went with the database."""
    world.environ["SYNCD_DATABASE__URL"] = f"sqlite:///{tmp_path / 'found.db'}"
    world.environ["SYNCD_ION__REFRESH_TOKEN"] = http("POST", f"{world.ion.url}/_sim/tokens/issue")["refresh_token"]


def writes(world: World) -> tuple[int, int, int]:
    return len(world.ion.journal("create")), len(world.ion.journal("update")), len(world.commands())


def test_a_lost_database_is_put_together_again(make_world: MakeWorld, dialect: str, tmp_path: Path) -> None:
    world = make_world(dialect=dialect, customers=0, calls_per_minute=600)
    world.start()
    for number in range(COUNT):
        world.topics.edit(f"C{number}", **customer(f"Company {number}"))
    eventually(lambda: world.count_linked() == COUNT, "everybody is linked", 60)
    world.ion.fault("respell", "update")
    world.topics.edit("C0", company="Spelt by ION")
    eventually(lambda: "SPELT BY ION" in {row["company"] for row in world.ion.customers().values()}, "the spelling")
    world.wait_until_idle()
    links = world.links()
    world.stop()
    world.topics.edit("C1", company="Edited in the CRM")
    world.topics.edit("C3", company="Edited on both, here first")
    time.sleep(4)
    world.ion.edit(links["C2"], company="Edited in ION")
    world.ion.edit(links["C3"], company="Edited on both, here last")
    before = writes(world)
    lose_the_database(world, tmp_path)

    done = world.syncd("rebuild", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["links"], told["without_event"], told["unusable"]) == (COUNT, 0, [])
    assert world.links() == links
    assert writes(world) == before

    world.start()
    eventually(lambda: world.ion.customers()[links["C1"]]["company"] == "Edited in the CRM", "the CRM's edit", 60)
    eventually(lambda: len(world.commands()) == before[2] + (2 if dialect == "live" else 1), "ION's edits", 60)
    world.wait_until_idle()
    assert world.links() == links
    creates, updates, _ = writes(world)
    assert creates == before[0], "nobody is created again"
    assert updates - before[1] == (1 if dialect == "live" else 2), "and nobody is written to who did not move"
    asked = {c["data"]["set"]["company"] for _, c in world.topics.read(world.topics.commands) if "set" in c["data"]}
    assert "Edited in ION" in asked
    assert "SPELT BY ION" not in asked


def test_a_database_in_use_is_not_rebuilt(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start()
    world.topics.edit("C1", **customer())
    world.linked("C1")
    refused = world.syncd("rebuild")
    assert refused.returncode == 1
    assert "in use" in refused.stderr


def test_a_rebuild_that_was_broken_off_is_begun_again_before_anything_runs(
    make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start()
    world.topics.edit("C1", **customer())
    ion_id = world.linked("C1")
    world.wait_until_idle()
    world.stop()
    lose_the_database(world, tmp_path)
    world.ion.fault("status", "list", count=1, code=500)
    broken = world.syncd("rebuild")
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr
    refused = world.syncd("run")
    assert refused.returncode == 1
    assert "syncd rebuild" in refused.stderr
    assert world.syncd("rebuild").returncode == 0
    assert world.links() == {"C1": ion_id}
    world.start()
    world.wait_until_idle()
    assert len(world.ion.journal("create")) == 1


def test_events_that_retention_took_before_they_were_read_raise_an_alarm(make_world: MakeWorld) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start()
    world.topics.edit("C1", **customer())
    ion_id = world.linked("C1")
    world.stop()
    world.topics.edit("C1", title="Never to be read")
    world.topics.forget_all()
    world.start()
    world.daemons["daemon"].wait_for("events_lost_to_retention")
    assert "syncd_events_missed_total 1.0" in world.metrics()
    world.topics.edit("C1", company="Read again")
    eventually(lambda: world.ion.customers()[ion_id]["company"] == "Read again", "what comes after is read")
    assert world.ion.customers()[ion_id]["title"] == "CEO"
