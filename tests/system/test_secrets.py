"""A full run, and then every log, page, metric, error, command and topic is searched for the secrets in use."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.parts.world import World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer

SEED = 77
ADMIN_TOKEN, FIRST_TOKEN = "admin-token-4711", "first-refresh-token-0815"
KEY = base64.urlsafe_b64encode(Random("key").randbytes(32)).decode()
PAGES = (
    *("", "customers", "customers/C1", "review", "conflicts", "plan", "quarantine", "dead-letters", "dead-letters/1"),
    "login",
)
PATHS = (
    *(
        "v1/status",
        "v1/customers/C1",
        "v1/links",
        "v1/plan",
        "v1/dead-letters",
        "v1/quarantine?kind=all",
        "v1/orders",
        "orders",
        "licences",
    ),
    *("v1/openapi.json", "v1/customers/nobody", "metrics", "livez", "readyz"),
)
COMMANDS = (
    *("status", "check", "config show", "token status", "links list", "explain C1", "conflicts", "plan", "verify"),
    *("quarantine list --all", "dead-letters show 1", "explain nobody", "replay --dry-run"),
    "token set --file /nonexistent",
)


def tokens_of_ion() -> Iterator[str]:
    """What the simulated ION gives out, one pair a refresh."""
    for number in range(1, 40):
        rng = Random(f"{SEED}-{number}")
        yield f"A{rng.getrandbits(160):040x}"
        yield f"R{rng.getrandbits(160):040x}"


def test_no_secret_is_anywhere_to_be_read(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(dialect="live", customers=2, calls_per_minute=600, seed=SEED, refresh_token=FIRST_TOKEN)
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    del world.environ["SYNCD_SECRET_KEY"]
    world.environ |= {
        "SYNCD_SECRET_KEY_FILE": str(key_file),
        "SYNCD_ION__REFRESH_TOKEN": FIRST_TOKEN,
        "SYNCD_ADMIN__TOKEN": ADMIN_TOKEN,
        "SYNCD_LOG__LEVEL": "debug",
    }
    _live(world)
    told = dict(_everything_told(world))
    secrets = {
        "the admin token": [ADMIN_TOKEN],
        "the first refresh token": [FIRST_TOKEN],
        "a token of ION's": list(tokens_of_ion()),
        "a portal password": ["generated-secret-"],
        "the key": [KEY],
    }
    assert len(told) > 30
    found = [
        f"{what} in {where}"
        for where, text in told.items()
        for what, them in secrets.items()
        for it in them
        if it in text
    ]
    assert found == []
    dump = _dump(world)
    assert "C1" in dump
    assert [what for what, them in secrets.items() for it in them if it in dump] == [], "sealed at rest"


def _live(world: World) -> None:
    """A day with everything that can go wrong."""
    world.start()
    world.topics.edit("C1", **customer("Has a portal password"))
    ion_id = world.linked("C1")
    world.topics.send("C9", b"no JSON")
    world.topics.flush()
    http("POST", f"{world.ion.url}/_sim/tokens/expire-access")
    for kind, operation, more in (
        ("unauthorised", "list", {}), ("status", "update", {"code": 500}), ("status", "token", {"code": 503}),
        ("html", "list", {}), ("timeout-after", "update", {}), ("reset-after", "get", {}), ("rejects", "update", {}),
    ):  # fmt: skip
        world.ion.fault(kind, operation, **more)
    for number in range(4):
        world.topics.edit("C1", title=f"Title {number}")
        world.ion.edit(ion_id, contact=f"Contact {number}")
    eventually(lambda: world.look("dead-letters"), "the event is set aside")
    world.ion.heal()
    http("POST", f"{world.ion.url}/_sim/tokens/kill-refresh")
    http("POST", f"{world.ion.url}/_sim/tokens/expire-access")
    eventually(lambda: world.look("status")["token_problem"], "the token is refused", 60)


def _everything_told(world: World) -> Iterator[tuple[str, str]]:
    for path in PAGES:
        yield f"page /{path}", _fetch(f"{world.address}/{path}", {"Cookie": _session(world)})
    for path in PATHS:
        yield f"/{path}", _fetch(f"{world.address}/{path}", {"Authorization": f"Bearer {ADMIN_TOKEN}"})
    yield "a refusal", _fetch(f"{world.address}/v1/status", {"Authorization": "Bearer guess"})
    for command in COMMANDS:
        done = world.syncd(*command.split())
        yield f"syncd {command}", done.stdout + done.stderr
    ours = [path.read_bytes().decode(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
    yield "the processes", "\n".join(line for line in ours if "\0sim\0" not in line)
    for topic in (world.topics.commands, world.topics.links):
        yield f"topic {topic}", json.dumps(world.topics.read(topic), default=str)
    world.stop()
    for log in world.folder.glob("daemon-*.log"):
        yield f"log {log.name}", log.read_text(errors="replace")


def _session(world: World) -> str:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    form = f"token={ADMIN_TOKEN}&name=ida".encode()
    try:
        urllib.request.build_opener(Stay).open(f"{world.address}/login", form, timeout=10)
    except urllib.error.HTTPError as answer:
        return str(answer.headers["Set-Cookie"]).split(";")[0]
    raise AssertionError("signing in leads to the overview")


def _fetch(url: str, headers: dict[str, str]) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return str(answer.headers) + answer.read().decode()
    except urllib.error.HTTPError as error:
        return str(error.headers) + error.read().decode()


def _dump(world: World) -> str:
    """All rows of all tables, as text."""
    names = world.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(row for name in names for row in world.sql(f'SELECT t::text FROM "{name}" t'))
