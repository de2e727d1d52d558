"""The demo: a simulated ION and CRM, a broker from a wheel, and the real daemon between them.

It plays a morning at a reseller in about half a minute and prints what happened on which side, what it
cost, who won the conflict, and that a kill in the middle lost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from syncd.sim.crm import Crm, CrmOptions, on_kafka
from syncd.sim.ion import Account, IonOptions, IonServer, serve_app

CALLS_PER_MINUTE = 240
POLL_SECONDS = 2
PATIENCE_SECONDS = 60.0
COMPARED = {
    "live": ("company", "email", "country", "phone", "address", "contact", "title", "language"),
    "seed": ("company", "email", "country", "phone", "address"),
}


class DemoFailed(Exception):
    """Something did not happen in time."""


@dataclass(slots=True)
class Stage:
    """Both sides, the daemon between them, and the story so far."""

    account: Account
    crm: Crm
    environ: dict[str, str]
    folder: Path
    dialect: str
    out: Console
    address: str = ""
    daemon: asyncio.subprocess.Process | None = None
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def calls(self) -> int:
        return len(self.account.journal)

    def ion_named(self, company: str) -> dict[str, Any] | None:
        return next((row for row in self.account.customers.values() if row["company"] == company), None)

    async def until(self, claim: Callable[[], object], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := claim()):
            if time.monotonic() > deadline:
                raise DemoFailed(f"not within {PATIENCE_SECONDS:.0f} s: {what}")
            if self.daemon is not None and self.daemon.returncode is not None:
                raise DemoFailed(
                    f"the daemon ended with {self.daemon.returncode}; its log: {self.folder / 'daemon.log'}"
                )
            await asyncio.sleep(0.05)
        return found

    @contextlib.asynccontextmanager
    async def step(self, happened: str, outcome: str) -> AsyncIterator[None]:
        """One line of the story, with its time and its calls to ION."""
        began, before = time.monotonic(), self.calls()
        yield
        seconds, calls = time.monotonic() - began, self.calls() - before
        self.rows.append((happened, outcome, f"{seconds:.1f} s", str(calls)))
        self.out.print(f"  [green]✓[/] {happened} → {outcome}  [dim]{seconds:.1f} s, {calls} calls to ION[/]")

    async def start_daemon(self) -> None:
        log = (self.folder / "daemon.log").open("ab")
        with log:
            said = log.tell()
            self.daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "syncd", "run", env=self.environ, stdout=log, stderr=log
            )
        found = await self.until(lambda: self._said(said, "daemon_started"), "the daemon starts")
        self.address = str(orjson.loads(found)["address"])

    def _said(self, after: int, what: str) -> str | None:
        text = (self.folder / "daemon.log").read_bytes()[after:].decode(errors="replace")
        return next((line for line in text.splitlines() if what in line), None)

    async def end_daemon(self, number: signal.Signals) -> None:
        if self.daemon is not None and self.daemon.returncode is None:
            self.daemon.send_signal(number)
            await self.daemon.wait()
        self.daemon = None

    async def syncd(self, *arguments: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "syncd", *arguments, "--json", env=self.environ, stdout=asyncio.subprocess.PIPE
        )
        text, _ = await process.communicate()
        return orjson.loads(text)

    def differences(self) -> list[str]:
        """Compare both sides, field by field, by what they hold themselves.

        What the seed dialect doesn't have is not compared; what it hides can't have come from there.
        """
        theirs = {row["company"]: row for row in self.account.customers.values()}
        found = [] if len(self.crm.customers) == len(theirs) else [f"{len(self.crm.customers)} against {len(theirs)}"]
        for crm_id, row in self.crm.customers.items():
            other = theirs.get(row.get("company"), {})
            for name in COMPARED[self.dialect]:
                is_hidden = self.dialect == "seed" and name in ("phone", "address") and not row.get(name)
                if not is_hidden and (row.get(name) or None) != (other.get(name) or None):
                    found.append(f"{crm_id} {name}")
        return found


async def run_demo(*, stay: bool, dialect: str) -> int:
    """Play it; 0 when both sides are equal at the end."""
    out = Console(highlight=False)
    broker = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
    bootstrap = ",".join(f"{b.host}:{b.port}" for b in broker.list_topics(timeout=10).brokers.values())
    account = Account(IonOptions(dialect=dialect, customers=6, calls_per_minute=CALLS_PER_MINUTE))
    runner, port = await serve_app(IonServer(account).app(), 0)
    crm = Crm(CrmOptions(seed=2, bootstrap_servers=bootstrap))
    with tempfile.TemporaryDirectory(prefix="syncd-demo-") as folder:
        environ = _environment(Path(folder), bootstrap, port)
        stage = Stage(account, crm, environ, Path(folder), dialect, out)
        out.print(
            f"[bold]syncd demo[/]: ION ({dialect} dialect, {CALLS_PER_MINUTE} calls a minute) ⇄ syncd ⇄ CRM (Kafka)\n"
        )
        try:
            await asyncio.to_thread(_make_topics, broker, crm)
            async with on_kafka(crm):
                await _play(stage)
                equal = _finish(stage)
                if stay and equal:
                    _leave_work(stage)
                    out.print(f"\nStill running. The console: {stage.address}/  (Ctrl-C ends it)")
                    out.print("There is a conflict to put back, and three customers to say who they are.")
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.Event().wait()
        except DemoFailed as failed:
            out.print(f"[red]The demo failed[/]: {failed}")
            out.print((stage.folder / "daemon.log").read_text(errors="replace")[-3000:], markup=False)
            return 1
        finally:
            await stage.end_daemon(signal.SIGTERM)
            await runner.cleanup()
    return 0 if equal else 4


async def _play(stage: Stage) -> None:
    account, crm = stage.account, stage.crm
    for row in list(account.customers.values())[:4]:
        crm.change(crm.new_id(), {name: value for name, value in row.items() if name != "id"})
    newcomer = {**_newcomer(), "company": "Blue Door Bakery Ltd", "email": "ida@bluedoor.example"}
    crm.change(crm.new_id(), newcomer)

    async with stage.step(
        "first contact: 6 customers in ION, 5 in the CRM", "4 linked, 1 created in ION, 2 in the CRM"
    ):
        await stage.start_daemon()
        await stage.until(lambda: stage.ion_named("Blue Door Bakery Ltd"), "the CRM's customer in ION")
        await stage.until(lambda: len(crm.customers) == 7, "ION's two customers in the CRM")

    first = next(iter(crm.customers))
    ion_id = next(key for key, row in account.customers.items() if row["company"] == crm.customers[first]["company"])
    async with stage.step("CRM: phone edited", "written to ION"):
        crm.change(first, {"phone": "+18135550177"})
        await stage.until(lambda: account.customers[ion_id]["phone"] == "+18135550177", "the phone in ION")
    async with stage.step("ION: e-mail edited", "written to the CRM"):
        account.edit(ion_id, {"email": "front.desk@harbour.example"})
        await stage.until(
            lambda: crm.customers[first]["email"] == "front.desk@harbour.example", "the e-mail in the CRM"
        )

    second = list(crm.customers)[1]
    other_id = next(
        key for key, row in account.customers.items() if row["company"] == crm.customers[second]["company"]
    )
    async with stage.step("both: company edited, ION first, the CRM later", "the CRM won, ION's value kept aside"):
        before = await stage.syncd("conflicts")
        await stage.end_daemon(signal.SIGTERM)
        account.edit(other_id, {"company": "Quarry Works (as ION has it)"})
        await asyncio.sleep(3.2)
        crm.change(second, {"company": "Quarry Works (as the CRM has it)"})
        await stage.start_daemon()
        await stage.until(
            lambda: account.customers[other_id]["company"].endswith("(as the CRM has it)"), "the winner in ION"
        )
        conflicts = await stage.syncd("conflicts")
        if len(conflicts) != len(before) + 1:
            raise DemoFailed("the conflict is not listed")

    async with stage.step("kill -9, edits on both sides meanwhile, a new start", "nothing lost, nothing doubled"):
        await stage.end_daemon(signal.SIGKILL)
        crm.change(first, {"company": "Harbour Lights Dental Group"})
        account.edit(other_id, {"email": "accounts@quarry.example"})
        customers = len(account.customers)
        await stage.start_daemon()
        await stage.until(
            lambda: account.customers[ion_id]["company"] == "Harbour Lights Dental Group", "the CRM's edit"
        )
        await stage.until(lambda: crm.customers[second]["email"] == "accounts@quarry.example", "ION's edit")
        if len(account.customers) != customers:
            raise DemoFailed("a customer was created twice")
    await stage.until(lambda: not stage.differences(), "both sides are equal")
    stage.rows.append(("the conflict, as `syncd conflicts` tells it", _told(conflicts[0]), "", ""))


def _told(conflict: dict[str, Any]) -> str:
    return f"{conflict['winner']} won by {conflict['rule']}; put aside: {conflict['losing']!r}"


def _finish(stage: Stage) -> bool:
    table = Table(title="\nWhat happened", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("what", "outcome", "took", "calls to ION"):
        table.add_column(name, overflow="fold")
    for row in stage.rows:
        table.add_row(*row)
    stage.out.print(table)
    account = stage.account
    throttled = sum(entry["status"] == 429 for entry in account.journal)
    stage.out.print(
        f"\n{stage.calls()} calls to ION in all, at most {account.busiest_minute()} in any minute of"
        f" {CALLS_PER_MINUTE} allowed, {throttled} answered 429; {account.refreshes} token refresh(es)."
    )
    differences = stage.differences()
    stage.out.print(
        "[bold green]both sides equal[/]" if not differences else f"[red]both sides differ[/]: {differences}"
    )
    return not differences


def _environment(folder: Path, bootstrap: str, port: int) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
    return {
        **ours,
        "SYNCD_DATABASE__URL": f"sqlite:///{folder / 'syncd.db'}",
        "SYNCD_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "SYNCD_ION__URL": f"http://127.0.0.1:{port}",
        "SYNCD_ION__ACCOUNT_ID": "20481",
        "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
        "SYNCD_ION__CALLS_PER_MINUTE": str(CALLS_PER_MINUTE),
        "SYNCD_POLL__INTERVAL_SECONDS": str(POLL_SECONDS),
        "SYNCD_ADMIN__PORT": "0",
        "SYNCD_LOG__FORMAT": "json",
    }


def _make_topics(broker: Producer, crm: Crm) -> None:
    """The broker in the wheel makes a topic when somebody asks about it."""
    for topic in (crm.options.events_topic, crm.options.commands_topic, "syncd.links", "syncd.dead-letters"):
        broker.list_topics(topic, timeout=10)


def _leave_work(stage: Stage) -> None:
    """Customers that may be the same or not: who plays on has something to settle."""
    for name, town in (("Harbour Lights", "Bristol"), ("Nordlicht Consulting", "Kiel"), ("Casa Verde", "Sevilla")):
        mail = name.lower().replace(" ", "-")
        stage.account.add({**_newcomer(), "company": name, "email": f"office@{mail}.example"})
        there = {"street": "7 Market Place", "suite": "", "city": town, "state": "", "zip": "4711"}
        elsewhere = {"country": "GB", "address": there, "phone": "+442079460018", "contact": "Sam Reed"}
        elsewhere |= {"email": f"hello@{mail}-{town.lower()}.example"}
        stage.crm.change(stage.crm.new_id(), {**_newcomer(), "company": name, **elsewhere})


def _newcomer() -> dict[str, Any]:
    return {
        "country": "US",
        "phone": "+15125550100",
        "address": {"street": "12 Mill Lane", "suite": "", "city": "Austin", "state": "TX", "zip": "78701"},
        "contact": "Ida Brook",
        "title": "Owner",
        "language": "EN",
        "status": "active",
    }
