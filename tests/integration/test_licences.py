"""Snapshots of licences by the command line, against the simulated ION, in both dialects."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

import orjson
import pytest

from syncd.core.licences import Contract
from syncd.core.link import How, Link, LinkState
from syncd.core.values import CrmId, IonId, Millis
from syncd.crm.licences import read_contract
from syncd.engine.intake import SavedEvent
from syncd.engine.licences import ContractIntake
from syncd.store.seal import Seal
from syncd.store.sql import SqlStore, make_engine
from tests.integration.conftest import Shell
from tests.parts.world import http

WEEK_MS = 7 * 86_400_000


def held(shell: Shell) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http("GET", f"{shell.ion.url}/_sim/shop")["subscriptions"]
    return found


def change(shell: Shell, number: str, **changes: Any) -> None:
    http("PATCH", f"{shell.ion.url}/_sim/subscriptions/{number}", changes)


def a_week_goes_by(shell: Shell) -> None:
    """What is stored is a week older."""
    with sqlite3.connect(shell.database) as database:
        for table in ("snapshots", "licence_drift"):
            database.execute(f"UPDATE {table} SET at = at - {WEEK_MS}")
        ended = f"json_set(body, '$.ended', json_extract(body, '$.ended') - {WEEK_MS})"
        database.execute(f"UPDATE snapshots SET body = {ended}")
    database.close()


def told(shell: Shell, topic: str) -> dict[str, Any]:
    """What waits to go out on a topic, by key; all that waits is taken off."""
    with sqlite3.connect(shell.database) as database:
        rows = database.execute("SELECT key, value FROM messages WHERE topic = ? ORDER BY id", [topic]).fetchall()
        database.execute("DELETE FROM messages")
    database.close()
    return {key.decode(): json.loads(value) for key, value in rows}


def test_drift_and_digest_show_exactly_what_was_changed_between_two_weeks(shell: Shell) -> None:
    shell.run("db", "upgrade")
    assert "There is no snapshot yet" in shell.run("ion", "subscriptions", "drift").out
    assert shell.run("ion", "subscriptions", "digest").code == 1
    first = shell.run("ion", "subscriptions", "snapshot", "--json").json
    before = held(shell)
    assert (first["subscriptions"], first["moved"]) == (len(before), 0), "nothing has moved before the first"
    assert first["calls"] == (2 if shell.dialect == "live" else 1 + 7)
    a_week_goes_by(shell)
    up, down, off = before[:3]
    change(shell, up["id"], seats=up["seats"] + 4)
    change(shell, down["id"], seats=1)
    change(shell, off["id"], status="suspended")
    again = shell.run("ion", "subscriptions", "snapshot", "--json").json
    moves = {d["subscription"]: (d["kind"], d["was"], d["seats"]) for d in _drift(shell)["drift"]}
    expected = {
        up["id"]: ("seats", up["seats"], up["seats"] + 4),
        down["id"]: ("seats", down["seats"], 1),
        off["id"]: ("seats", off["seats"], 0),
    }
    assert moves == {number: move for number, move in expected.items() if move[1] != move[2]}
    assert again["moved"] == len(moves)
    markdown = shell.run("ion", "subscriptions", "digest").out
    html = shell.run("ion", "subscriptions", "digest", "--html").out
    assert len(re.findall(r"\| seats \| \d", markdown)) == len(moves)
    assert html.count('<td data-label="What">seats</td>') == len(moves)
    assert f"| {up['seats']} | {up['seats'] + 4} |" in markdown
    a_week_goes_by(shell)
    assert shell.run("ion", "subscriptions", "snapshot", "--json").json["moved"] == 0
    assert _drift(shell)["drift"] == []
    since = _drift(shell, "--since", "2020-01-01T00:00:00Z")["drift"]
    assert len(since) == len(moves), "what moved before is still known"


def _drift(shell: Shell, *arguments: str) -> Any:
    return shell.run("ion", "subscriptions", "drift", *arguments, "--json").json


def test_what_it_is_worth_is_told_where_prices_are_known(shell: Shell) -> None:
    shell.run("ion", "subscriptions", "snapshot")
    skus = _drift(shell)["skus"]
    assert sum(roll["seats"] for roll in skus) == sum(one["seats"] for one in held(shell))
    for roll in skus:
        if shell.dialect == "live":
            one = next(s for s in held(shell) if s["product"]["sku"] == roll["sku"])
            assert float(roll["revenue"]) == pytest.approx(one["product"]["price"] * roll["seats"])
            assert float(roll["margin"]) == pytest.approx(float(roll["revenue"]) - float(roll["cost"]))
        else:
            assert (roll["revenue"], roll["margin"]) == (None, None)


async def test_seats_are_compared_with_what_is_under_contract(shell: Shell) -> None:
    shell.run("ion", "subscriptions", "snapshot")
    one = held(shell)[0]
    sku = one["product"]["sku" if shell.dialect == "live" else "name"]
    engine = make_engine(f"sqlite:///{shell.database}")
    store = SqlStore(engine, Seal([shell.database.with_suffix(".key").read_text().strip()]))
    async with store.begin() as unit:
        for ion_id in {s["customer"] for s in held(shell)}:
            link = Link(CrmId(f"C{ion_id}"), IonId(ion_id), LinkState.LINKED, How.PERSON, Millis(1), {})
            await unit.add_link(link)
        values = [{"customer": f"C{one['customer']}", "sku": sku, "seats": one["seats"] + 2}, {"seats": "x"}]
        events = [
            SavedEvent("crm.contracts", 0, offset, Millis(5), b"", orjson.dumps(value), ())
            for offset, value in enumerate(values)
        ]
        letters = await ContractIntake(read_contract).take(unit, events, Millis(9))
        assert [letter.offset for letter in letters] == [1]
        assert await unit.contracts() == [Contract(f"C{one['customer']}", sku, one["seats"] + 2)]
    await engine.dispose()
    gaps = {(gap["customer"], gap["sku"]): (gap["contracted"], gap["seats"]) for gap in _drift(shell)["gaps"]}
    assert gaps.pop((f"C{one['customer']}", sku)) == (one["seats"] + 2, one["seats"])
    assert {contracted for contracted, _ in gaps.values()} == {0}, "the others have no contract"
    assert "Not as under contract" in shell.run("ion", "subscriptions", "digest").out


def test_each_change_is_told_on_its_topic_once(shell: Shell) -> None:
    shell.run("ion", "subscriptions", "snapshot")
    assert len(told(shell, "syncd.subscriptions")) == len(held(shell))
    one = held(shell)[0]
    change(shell, one["id"], seats=one["seats"] + 1)
    shell.run("ion", "subscriptions", "snapshot")
    [(key, move)] = told(shell, "syncd.licence-drift").items()
    assert (key, move["was"], move["is"]) == (f"synnex/{one['id']}", one["seats"], one["seats"] + 1)
    shell.run("ion", "subscriptions", "snapshot")
    assert told(shell, "syncd.subscriptions") == {}


@pytest.mark.parametrize("shell", ["seed"], indirect=True)
def test_a_listing_that_breaks_off_is_no_snapshot_and_what_it_found_counts_for_the_next(shell: Shell) -> None:
    shell.run("ion", "subscriptions", "snapshot")
    one = held(shell)[0]
    change(shell, one["id"], seats=one["seats"] + 1)
    shell.ion.fault("reset-before", "list_subscriptions", skip=3)
    assert shell.run("ion", "subscriptions", "snapshot").code == 1
    assert _drift(shell)["before"] is None
    done = shell.run("ion", "subscriptions", "snapshot", "--json").json
    assert done["moved"] == 1
    [move] = _drift(shell)["drift"]
    assert (move["subscription"], move["was"], move["seats"]) == (one["id"], one["seats"], one["seats"] + 1)
