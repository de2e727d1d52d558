"""Daemons as processes on real Kafka and a real database, killed and stopped again and again (S1-S15 together).

People edit both sides all the while; ION has accidents; brokers and database restart; connections are
cut. At the end both sides are equal, nobody is doubled, no last edit is lost, and no minute was over
the budget. ``make chaos`` is the long form.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.parts.kafka import Kafka
from tests.parts.postgres import Postgres
from tests.parts.proxy import Proxy
from tests.parts.world import Process, World, eventually, http
from tests.system.test_day import customer

SECONDS = float(os.environ.get("SYNCD_CHAOS_SECONDS", "50"))
KILLS = int(os.environ.get("SYNCD_CHAOS_KILLS", "6"))
SEED = int(os.environ.get("SYNCD_CHAOS_SEED", "0")) or int(time.time())
CUSTOMERS = int(os.environ.get("SYNCD_CHAOS_CUSTOMERS", "12"))
"""On both sides from the start; some more come."""
SETTLE_SECONDS = 240 + SECONDS / 2
REPLICAS = {"postgres": 3, "sqlite": 1}
R = 240
EDITABLE = ("company", "phone", "title", "contact")
FAULTS = (
    "timeout-after",
    "reset-before",
    "reset-after",
    "html",
    "half-json",
    "page-missing",
    "page-twice",
    "slow",
    "status",
)
ORDER_SECONDS = 2.5


class Chaos:
    """The people, and what they did."""

    def __init__(self, world: World, crm: str, rng: Random) -> None:
        self.world, self.crm, self.rng = world, crm, rng
        self.edits: dict[tuple[str, str, str], list[tuple[float, str]]] = {}
        self.number = 0
        self.ids: dict[str, list[str]] = {}

    def crm_rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in http("GET", f"{self.crm}/customers")}

    def meet_everybody(self) -> None:
        self.ids = {"crm": sorted(self.crm_rows()), "ion": sorted(self.world.ion.customers())}

    def edit(self) -> None:
        side = self.rng.choice(("crm", "ion"))
        self.number += 1
        name, customer_id = self.rng.choice(EDITABLE), self.rng.choice(self.ids[side])
        value = f"+1813556{self.number:04d}" if name == "phone" else f"{name} {self.number}"
        if side == "crm":
            http("PATCH", f"{self.crm}/_sim/customers/{customer_id}", {name: value})
        else:
            self.world.ion.edit(customer_id, **{name: value})
        self.edits.setdefault((side, customer_id, name), []).append((time.time(), value))

    def create(self) -> None:
        self.number += 1
        values = customer(f"Newcomer {self.number}")
        if self.rng.random() < 0.5:
            http("POST", f"{self.crm}/_sim/customers", values)
        else:
            self.world.ion.add(**values)
        self.meet_everybody()

    def differences(self) -> list[str]:
        links, crm, ion = self.world.links(), self.crm_rows(), self.world.ion.customers()
        waiting = self.in_review()
        settled = waiting | {f"crm:{crm_id}" for crm_id in links} | {f"ion:{ion_id}" for ion_id in links.values()}
        everybody = [f"crm:{crm_id}" for crm_id in crm] + [f"ion:{ion_id}" for ion_id in ion]
        found = [f"{who} is not linked" for who in everybody if who not in settled]
        for crm_id, ion_id in links.items():
            for name in EDITABLE:
                if crm[crm_id].get(name) != ion[ion_id].get(name):
                    found.append(f"{crm_id}.{name}: {crm[crm_id].get(name)!r} {ion[ion_id].get(name)!r}")
        return found

    def in_review(self) -> set[str]:
        """Who waits for a person, since a lost create and a stranger made at that moment can't be told apart."""
        return {hold["subject"] for hold in self.world.look("quarantine?kind=review&limit=1000")}

    def lost_edits(self) -> list[str]:
        """Last edits that are neither there, nor beaten by a later one, nor archived, nor overwritten unseen."""
        crm, links = self.crm_rows(), self.world.links()
        archived = {(c["crm_id"], c["field"], c["losing"]) for c in self.world.json("conflicts", "--limit", "10000")}
        writes = [entry for entry in self.world.ion.journal("update") if entry["status"] in (200, 499, 0)]
        lost, crm_ids = [], {ion_id: crm_id for crm_id, ion_id in links.items()}
        for (side, customer_id, name), made in self.edits.items():
            crm_id = customer_id if side == "crm" else crm_ids.get(customer_id, "")
            if crm_id not in links:
                continue  # in review
            other = ("ion", links[crm_id], name) if side == "crm" else ("crm", crm_id, name)
            (at, value), final = made[-1], crm[crm_id].get(name)
            beaten = any(t > at - ORDER_SECONDS and final == v for t, v in self.edits.get(other, []))
            unseen = side == "ion" and any(
                entry.get("customer") == customer_id and at <= entry.get("ended", at) <= at + 50 for entry in writes
            )
            if final != value and not beaten and not unseen and (crm_id, name, value) not in archived:
                lost.append(f"{side} {customer_id}.{name} = {value!r}, it is {final!r}")
        return lost


def wrong_stories(world: World) -> list[str]:
    """Where what `explain` tells of a customer is not what ION's journal has."""
    calls: dict[str, list[dict[str, Any]]] = {}
    for entry in world.ion.journal():
        if (
            entry.get("operation") in ("create", "update")
            and entry.get("sent")
            and entry["status"] in (200, 201, 499, 0)
        ):
            calls.setdefault(entry["customer"], []).append(entry)
    found = []
    for crm_id, ion_id in world.links().items():
        told = world.look(f"customers/{crm_id}")
        for name in EDITABLE:
            field = told["fields"][name]
            if not field["crm"] or field["crm"][0]["value"] != field["agreed"]:
                found.append(f"{crm_id}.{name} is told as {field}")
        steps = [step for step in told["story"] if step["call"] and step["call"]["side"] == "ion"]
        made = calls.get(ion_id, [])
        found += [
            f"{crm_id}: nobody decided {call['operation']} {call['sent']}"
            for call in made
            if not any(_carries(call, step) for step in steps)
        ]
        found += [
            f"{crm_id}: {step['what']} {step['set']} is told as confirmed, and ION never heard of it"
            for step in steps
            if step["call"]["state"] == "confirmed" and not any(_carries(call, step) for call in made)
        ]
    return found


def _carries(call: dict[str, Any], step: dict[str, Any]) -> bool:
    sent = call["sent"]
    return step["call"]["kind"] == call["operation"] and all(sent.get(name) == v for name, v in step["set"].items())


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("database", ["postgres", "sqlite"])
def test_killed_again_and_again_it_loses_and_doubles_nothing(
    database: str, broker: Kafka, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rng = Random(SEED)
    print(f"SYNCD_CHAOS_SEED={SEED}")
    postgres = Postgres(tmp_path / "pg") if database == "postgres" else None
    world = World(
        tmp_path,
        broker.address,
        postgres.url if postgres else f"sqlite:///{tmp_path / 'syncd.db'}",
        "chaos",
        dialect="live",
        customers=CUSTOMERS,
        seed=5,
        calls_per_minute=R,
    )
    host, _, port = world.ion.url.removeprefix("http://").partition(":")
    proxy = Proxy((host, int(port)))
    environ = {
        "SYNCD_KAFKA__BOOTSTRAP_SERVERS": broker.address,
        "SYNCD_KAFKA__EVENTS_TOPIC": world.topics.events,
        "SYNCD_KAFKA__COMMANDS_TOPIC": world.topics.commands,
    }
    world.environ |= {
        "SYNCD_ION__URL": f"http://127.0.0.1:{proxy.port}",
        "SYNCD_ION__TIMEOUT_SECONDS": "3",
        "SYNCD_POLL__INTERVAL_SECONDS": "2",
        **{f"SYNCD_GUARD__MAX_{kind}": "0" for kind in ("CREATES", "UPDATES", "CLEARED_FIELDS", "PERCENT")},
    }
    crowd = ["--customers", str(CUSTOMERS), "--seed", "5"]
    crm_process = Process(["sim", "crm", "--port", "0", *crowd], environ, world.folder / "crm.log")
    try:
        crm = crm_process.wait_for("listens at").rsplit(" ", 1)[-1]
        chaos = Chaos(world, crm, rng)
        for _ in range(4):
            chaos.create()
        for number in range(REPLICAS[database]):
            world.start(f"daemon-{number}")
        seconds = SECONDS if postgres else SECONDS / 2
        kills = KILLS if postgres else KILLS // 2
        _play(world, chaos, broker, postgres, proxy, rng, seconds, kills)
        _settle(world, chaos)
        journal = world.ion.journal()
        assert world.ion.state()["busiest_minute"] <= R
        assert not [entry for entry in journal if entry["status"] == 429], "nobody was over the budget"
        made = [row["email"] for row in world.ion.customers().values()]
        assert len(made) == len(set(made))
        assert len(set(world.links().values())) == len(world.links())
        print(f"{len(chaos.edits)} edited fields, {len(world.links())} links, {len(chaos.in_review())} in review")
        assert chaos.lost_edits() == []
        assert wrong_stories(world) == []
        assert world.json("verify", "--stored")["differences"] == []
        assert world.json("verify", "--log")["wrong"] == []
    finally:
        proxy.close()
        world.close()
        crm_process.stop(signal.SIGKILL)
        if postgres:
            postgres.stop()


def _play(
    world: World,
    chaos: Chaos,
    broker: Kafka,
    postgres: Postgres | None,
    proxy: Proxy,
    rng: Random,
    seconds: float,
    kills: int,
) -> None:
    """People and accidents, with the kills and stops spread over the time there is."""
    start = time.monotonic()
    moments = sorted(rng.uniform(2, seconds) for _ in range(kills))
    restarts = sorted(rng.uniform(5, seconds - 5) for _ in range(2))
    # Longer than a lease lasts.
    stops = sorted(rng.uniform(2, seconds / 2) for _ in range(kills // 3)) if len(world.daemons) > 1 else []
    stopped: dict[str, float] = {}
    while (now := time.monotonic() - start) < seconds or moments or restarts or stopped:
        chaos.edit()
        if rng.random() < 0.05:
            chaos.create()
        if rng.random() < 0.15:
            world.ion.fault(rng.choice(FAULTS), rng.choice(("*", "list", "get", "update", "create")), code=503)
        if rng.random() < 0.05:
            proxy.cut()
        if moments and now >= moments[0]:
            moments.pop(0)
            name = rng.choice(sorted(world.daemons))
            world.stop(signal.SIGKILL, name)
            stopped.pop(name, None)
            time.sleep(rng.uniform(0, 1))
            world.start(name)
        if stops and now >= stops[0]:
            stops.pop(0)
            name = rng.choice(sorted(world.daemons))
            world.daemons[name].popen.send_signal(signal.SIGSTOP)
            stopped[name] = now + rng.uniform(16, 30)
        for name in [name for name, until in stopped.items() if now >= until]:
            world.daemons[name].popen.send_signal(signal.SIGCONT)
            del stopped[name]
        if restarts and now >= restarts[0]:
            restarts.pop(0)
            if postgres and not restarts:
                postgres.crash()
            else:
                broker.kill()
                time.sleep(rng.uniform(0, 2))
                broker.start()
        time.sleep(rng.uniform(0, 0.6))


def _settle(world: World, chaos: Chaos) -> None:
    """No more accidents: a person releases what was set aside, pastes a token where its answer died."""
    world.ion.heal()

    def is_even() -> bool:
        """On the sides themselves, and as far as syncd has heard of it."""
        try:
            return release_and_compare()
        except OSError:  # a daemon that does not answer again yet
            return False

    def release_and_compare() -> bool:
        status = world.look("status")
        if status["token_problem"]:
            pasted = world.folder / "token"
            pasted.write_text(http("POST", f"{world.ion.url}/_sim/tokens/issue")["refresh_token"])
            world.syncd("token", "set", "--file", str(pasted))
        for hold in world.look("quarantine"):
            world.syncd("quarantine", "release", hold["subject"])
        return not chaos.differences() and world.is_idle() and world.syncd("verify", "--stored").returncode == 0

    try:
        eventually(is_even, "both sides are equal, and nothing is under way", SETTLE_SECONDS)
    except AssertionError as error:
        told = f"{chaos.differences()}\n{world.json('status')}\nthe CRM: {http('GET', f'{chaos.crm}/_sim/state')}"
        raise AssertionError(f"{error}\n{told}") from None
