"""Our own HTTP over a real socket and a real database: who may come in, and that the API is as it says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from syncd.admin.access import Access
from syncd.admin.api import OPERATIONS
from syncd.admin.openapi import document
from syncd.admin.server import make_app, serve
from syncd.app import desk_of
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.link import How, Link, LinkState
from syncd.core.match import Candidate, Tier
from syncd.core.record import PRESENCE, PRESENT, Observation, Position, Stamp, new_record, observe
from syncd.core.values import CrmId, Field, IonId, Millis, Side, Subject
from syncd.core.work import Conflict, DeadLetter, DecisionEntry, Hold, HoldKind
from syncd.engine.desk import Desk
from syncd.opening import open_store
from syncd.settings import load
from syncd.store.sql import SqlStore

TOKEN = "a-token-of-the-test"
FORM = "application/x-www-form-urlencoded"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NOW = Millis(1_790_000_000_000)


class Probed:
    def __init__(self, desk: Desk | None) -> None:
        self.desk = desk
        self.found: dict[str, str] = {}

    async def problems(self) -> dict[str, str]:
        return self.found

    async def metrics_page(self) -> bytes:
        return b"# EOF\n"


class Served:
    """A running server, its desk and its clock."""

    def __init__(self, probed: Probed, store: SqlStore) -> None:
        self.address, self.probed, self.store = "", probed, store
        self.now = NOW
        self.pace_ms = 0
        """So much passes from one look at the clock to the next."""

    def clock(self) -> Millis:
        self.now = Millis(self.now + self.pace_ms)
        return self.now


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[SqlStore]:
    settings, _ = load(None, {"SYNCD_DATABASE__URL": sqlite_url})
    async with open_store(settings) as opened:
        await fill(opened)
        yield opened


@pytest.fixture(params=[TOKEN])
async def served(store: SqlStore, sqlite_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    settings, _ = load(None, {"SYNCD_DATABASE__URL": sqlite_url})
    probed = Probed(await desk_of(settings, store))
    here = Served(probed, store)
    access = Access(request.param, lambda data: [store.fingerprint(data)], here.clock)
    runner, port = await serve(make_app(probed, access), "127.0.0.1", 0)
    here.address = f"http://127.0.0.1:{port}"
    yield here
    await runner.cleanup()


OPEN = pytest.mark.parametrize("served", [None], indirect=True)


async def fill(store: SqlStore) -> None:
    """A customer with a conflict, one to review, one set aside, a dead letter."""
    values = {PRESENCE: PRESENT, Field.COMPANY: "<b>Acme</b> & Sons", Field.EMAIL: "a@acme.example"}
    async with store.begin() as unit:
        await unit.save_note("ion_dialect", "live")
        for number in ("C1", "C2", "C3"):
            seen = Observation(Side.CRM, number, values, Position(None, NOW, 1), is_edit=True)
            await unit.save_records([observe(new_record(Side.CRM, number), [seen])])
        for number in ("300001", "300002"):
            seen = Observation(Side.ION, number, values, Position(None, NOW, 1), is_edit=False)
            await unit.save_records([observe(new_record(Side.ION, number), [seen])])
        link = Link(CrmId("C1"), IonId("300001"), LinkState.LINKED, How.PERSON, NOW, {Field.COMPANY: "Acme"})
        await unit.add_link(link)
        stamp = Stamp(NOW, NOW)
        await unit.archive(
            [
                Conflict(
                    "c0ffee",
                    "C1",
                    "300001",
                    Field.COMPANY,
                    "later-edit",
                    Side.CRM,
                    "Won",
                    "Lost",
                    stamp,
                    stamp,
                    "i1",
                    NOW,
                )
            ]
        )
        await unit.save_intent(
            Intent(
                "i1", Subject("crm:C1"), Side.ION, Kind.UPDATE, {Field.COMPANY: "Won"}, {Field.COMPANY: "Lost"},
                IntentState.CONFIRMED, NOW, "C1", "300001", changed_at=NOW,
            )
        )  # fmt: skip
        why = {"company": {"rule": "later-edit", "winner": "crm", "crm": [NOW, NOW], "ion": [NOW, NOW]}}
        detail = {"side": "ion", "set": {"company": "Won"}, "why": why}
        await unit.log([DecisionEntry(NOW, Subject("crm:C1"), "C1", "300001", "update-decided", "i1", detail)])
        await unit.hold(Hold(Subject("crm:C2"), HoldKind.REVIEW, "it may be another", NOW))
        await unit.save_candidates(Subject("crm:C2"), [Candidate("C2", "300002", Tier.EMAIL_ONLY)])
        await unit.hold(Hold(Subject("crm:C3"), HoldKind.QUARANTINE, "ION said no", NOW))
        await unit.bury([DeadLetter("crm.customers", 0, 7, "undecodable", "not JSON", NOW, b"C9", b"{<script>", ())])


async def test_the_probes_are_open_and_the_rest_asks_for_the_token(served: Served) -> None:
    async with aiohttp.ClientSession() as client:
        for path, status in (("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/status", 401)):
            async with client.get(served.address + path) as answer:
                assert answer.status == status, path
        async with client.get(served.address + "/v1/openapi.json") as answer:
            assert answer.status == 401
        async with client.get(served.address + "/customers", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/login")
        for given in ("Bearer wrong", "Basic " + TOKEN, TOKEN, "Bearer", ""):
            async with client.get(served.address + "/v1/status", headers={"Authorization": given}) as answer:
                assert answer.status == 401, given
        async with client.get(served.address + "/v1/status", headers=BEARER) as answer:
            assert answer.status == 200


async def test_who_guesses_waits_and_who_waited_may_try_again(served: Served) -> None:
    async with aiohttp.ClientSession() as client:
        for _ in range(10):
            async with client.get(served.address + "/v1/status", headers={"Authorization": "Bearer guess"}) as answer:
                assert answer.status == 401
        async with client.get(served.address + "/v1/status", headers=BEARER) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "61")
        async with client.post(served.address + "/login", data={"token": TOKEN}) as answer:
            assert answer.status == 429
            assert "Too many wrong tokens" in await answer.text()
        served.now = Millis(NOW + 60_001)
        async with client.get(served.address + "/v1/status", headers=BEARER) as answer:
            assert answer.status == 200


async def test_a_session_is_signed_ends_and_is_needed_for_every_form(served: Served) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.post(
            served.address + "/login", data={"token": TOKEN, "name": "Ida"}, allow_redirects=False
        ) as answer:
            cookie = answer.headers["Set-Cookie"]
            assert answer.status == 303
        assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        async with client.get(served.address + "/") as answer:
            page = await answer.text()
            assert answer.status == 200
        assert "Ida" in page
        csrf = page.split('name="csrf" value="')[1].split('"')[0]
        for form in ({}, {"csrf": "wrong"}, {"csrf": csrf[:-1]}):
            async with client.post(served.address + "/do/pause", data=form) as answer:
                assert answer.status == 403
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        async with client.post(served.address + "/do/pause", data={"csrf": csrf}, headers=elsewhere) as answer:
            assert answer.status == 403
        assert not (await status_of(served))["is_paused"]
        async with client.post(
            served.address + "/do/pause", data={"csrf": csrf, "back": "//evil.example/"}, allow_redirects=False
        ) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
        assert (await status_of(served))["is_paused"]
        async with client.get(served.address + "/v1/status") as answer:
            assert answer.status == 401, "the API takes no cookie"
        for changed in (cookie.split("=", 1)[1].split(";")[0][:-2] + "00", "x.y", "", "."):
            async with aiohttp.ClientSession(cookies={"syncd_session": changed}) as other:
                async with other.get(served.address + "/", allow_redirects=False) as answer:
                    assert answer.status == 303, changed
        served.now = Millis(NOW + 12 * 3_600_000)
        async with client.get(served.address + "/", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/login")


async def status_of(served: Served) -> dict[str, object]:
    async with aiohttp.ClientSession() as client:
        async with client.get(served.address + "/v1/status", headers=BEARER) as answer:
            return dict(await answer.json())


@OPEN
async def test_without_a_token_only_this_machine_is_answered_to(served: Served) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.get(served.address + "/v1/status") as answer:
            assert answer.status == 200
        for host in ("evil.example", "evil.example:80", "10.0.0.1"):
            async with client.get(served.address + "/v1/status", headers={"Host": host}) as answer:
                assert answer.status == 403, host
            async with client.get(served.address + "/", headers={"Host": host}, allow_redirects=False) as answer:
                assert answer.status == 303, host
        async with client.post(
            served.address + "/v1/pause", data="{}", headers={"Content-Type": "text/plain"}
        ) as answer:
            assert answer.status == 415, "a form of another page can't send JSON"
        async with client.get(served.address + "/") as answer:
            csrf = (await answer.text()).split('name="csrf" value="')[1].split('"')[0]
        async with client.post(served.address + "/do/pause", data={"csrf": csrf}) as answer:
            assert "Writes are stopped" in await answer.text()


@OPEN
async def test_whoever_comes_with_an_old_cookie_gets_a_new_one(served: Served) -> None:
    """One of another syncd on this machine, or of before the key was made anew."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        client.cookie_jar.update_cookies({"syncd_session": "of.another"}, URL(served.address))
        async with client.get(served.address + "/") as answer:
            csrf = (await answer.text()).split('name="csrf" value="')[1].split('"')[0]
        async with client.post(served.address + "/do/pause", data={"csrf": csrf}) as answer:
            assert "Writes are stopped" in await answer.text()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/status", {"Authorization": "Bearer \udcff"}, 401),
        ("/", {"Cookie": 'syncd_session="\udcff"'}, 303),
        ("/login", {"Cookie": 'syncd_said="\udcff.\udcff"'}, 200),
        ("/v1/conflicts?before=yesterday", BEARER, 400),
        ("/v1/dead-letters?before=99999999999999999999", BEARER, 400),
    ],
)
async def test_rubbish_is_answered_and_leaves_no_traceback(
    served: Served, path: str, headers: dict[str, str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = URL(served.address)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode(errors="surrogateescape"))
    answer = await reader.read()
    writer.close()
    assert answer.split()[1] == str(status).encode(), answer[:300]
    assert "Traceback" not in capsys.readouterr().out


async def test_a_form_that_is_none_is_refused_on_a_page(served: Served) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.post(served.address + "/login", data=b"\xff", headers={"Content-Type": FORM}) as answer:
            assert answer.status == 403
        async with client.post(served.address + "/login", data={"token": TOKEN, "name": "Ida"}) as answer:
            csrf = (await answer.text()).split('name="csrf" value="')[1].split('"')[0]
        for form, status in (
            ({"crm_id": "C1"}, 400),
            ({"crm_id": " ", "ion_id": "300002"}, 400),
            ({"crm_id": "C\0", "ion_id": "300002"}, 400),
            ({"crm_id": " C3 ", "ion_id": "300002 "}, 200),
        ):
            async with client.post(served.address + "/do/link", data={"csrf": csrf, **form}) as answer:
                assert answer.status == status, form
        async with client.post(served.address + "/do/nothing", data={"csrf": csrf}) as answer:
            assert answer.status == 404
    async with served.store.begin() as unit:
        assert (await unit.links(Side.CRM, ["C3"]))["C3"].ion_id == "300002", "stray blanks are no part of an id"


async def test_every_page_escapes_and_says_what_it_may_load(served: Served) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        await client.post(served.address + "/login", data={"token": TOKEN, "name": "<i>Ida</i>"})
        for path in ("/", "/customers", "/customers/C1", "/review", "/conflicts", "/plan", "/quarantine", "/orders",
                     "/dead-letters", "/dead-letters/1", "/customers/nobody", "/dead-letters/99"):  # fmt: skip
            async with client.get(served.address + path) as answer:
                page = await answer.text()
                assert answer.status == (404 if path in ("/customers/nobody", "/dead-letters/99") else 200), path
                policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script" not in policy
            assert "&lt;i&gt;Ida" in page
            for raw in ("<i>Ida", "<b>Acme", "{<script>", "<script", "style=", "onclick"):
                assert raw not in page, (path, raw)
        async with client.get(served.address + "/customers/C1") as answer:
            page = await answer.text()
        for told in ("&lt;b&gt;Acme&lt;/b&gt; &amp; Sons", "later-edit", "Lost", "update-decided"):
            assert told in page, told


async def test_what_is_done_is_done_for_whom_it_names(served: Served) -> None:
    headers = {**BEARER, "X-Syncd-Person": "ida"}
    async with aiohttp.ClientSession(headers=headers) as client:

        async def post(path: str, body: object, status: int = 200) -> dict[str, object]:
            async with client.post(served.address + path, json=body) as answer:
                told = await answer.json()
                assert answer.status == status, (path, told)
                return dict(told)

        assert await post("/v1/review/accept", {"crm_id": "C2", "ion_id": "300002"}) == {"done": True}
        assert "linked" in str((await post("/v1/links", {"crm_id": "C2", "ion_id": "300001"}, 409))["error"])
        assert await post("/v1/quarantine/C3/release", {}) == {"done": True}
        assert "is not set aside" in str((await post("/v1/quarantine/C3/release", {}, 404))["error"])
        assert (await post("/v1/dead-letters/1/redrive", {}))["is_stored"] is False
        assert "no conflict nothing" in str((await post("/v1/conflicts/nothing/undo", {}, 404))["error"])
        assert (await post("/v1/pause", {}), await post("/v1/pause", {})) == ({"done": True}, {"done": False})
        assert await post("/v1/resume", {}) == {"done": True}
        assert (await post("/v1/links", {"crm_id": "C2"}, 400))["error"] == "ion_id: Field required"
        async with client.delete(served.address + "/v1/links/C2") as answer:
            assert (await answer.json())["ion_id"] == "300002"
        async with client.get(served.address + "/v1/customers/C2") as answer:
            story = (await answer.json())["story"]
    by = [step["detail"].get("by") for step in story if step["what"] in ("accepted", "parted")]
    assert by == ["ida by /v1", "ida by /v1"]


async def test_an_erased_customer_has_no_past_and_its_log_can_still_be_checked(served: Served) -> None:
    desk = served.probed.desk
    assert desk is not None
    before = await desk.check_log()
    assert (before.entries, before.erased, before.wrong) == (1, 0, [])
    erased = await desk.erase("C1", "ida")
    assert erased.entries == 1
    assert erased.conflicts == 1
    assert await desk.conflicts("C1", None, 10) == []
    story = await desk.explain("C1")
    assert [(step.entry.what, "company" in str(step.entry.detail)) for step in story.steps] == [
        ("update-decided", False),
        ("erased", False),
    ]
    after = await desk.check_log()
    assert (after.entries, after.erased, after.wrong) == (2, 1, [])
    async with served.store.engine.begin() as connection:  # somebody touches up what is left of the entry
        await connection.exec_driver_sql("UPDATE decisions SET crm_id = 'C3' WHERE id = 1")
    assert (await desk.check_log()).wrong == [1]


async def test_while_the_database_is_away_pages_and_api_say_so(served: Served) -> None:
    served.probed.desk = None
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        async with client.get(served.address + "/v1/status", headers=BEARER) as answer:
            assert answer.status == 503
        await client.post(served.address + "/login", data={"token": TOKEN})
        async with client.get(served.address + "/") as answer:
            assert "The database does not answer yet" in await answer.text()


async def test_the_api_is_as_its_document_says(served: Served, tmp_path: Path) -> None:
    """Schemathesis asks whatever the document allows, and much that it does not."""
    examples = os.environ.get("SYNCD_API_EXAMPLES", "25")
    served.pace_ms = 30_000  # wrong tokens are among what it tries
    program = Path(sys.executable).with_name("schemathesis")
    arguments = (
        "run", f"{served.address}/v1/openapi.json", "--header", f"Authorization: Bearer {TOKEN}", "--checks", "all",
        "--max-examples", examples, "--seed", "1", "--report", "junit", "--report-dir", str(tmp_path),
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        program, *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-6_000:]
    assert f"Tested: {len(OPERATIONS)}" in told.decode()


def test_the_document_names_every_operation_once() -> None:
    paths = document("0")["paths"]
    named = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert sorted(named) == sorted(operation.name for operation in OPERATIONS)
    assert len(set(named)) == len(named)
    json.dumps(paths)
