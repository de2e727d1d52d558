"""The console in a real browser: each page and action, once by keyboard alone, once without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.parts.browser import NoBrowser, browser, screenshots
from tests.parts.world import World, eventually, http
from tests.system.conftest import MakeWorld
from tests.system.test_day import customer
from tests.system.test_undo import asked_of_crm, carry_out, contested_world

TOKEN = "the-console-token"
PAGES = (
    "/",
    "/customers",
    "/links/import",
    "/review",
    "/conflicts",
    "/plan",
    "/quarantine",
    "/dead-letters",
)
SHOP_PAGES = ("/orders", "/licences")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True},
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from tests.conftest import _missing

    try:
        with browser() as started:
            yield started
    except NoBrowser as error:
        _missing("Chromium", str(error))


@pytest.fixture
def sign_in(chromium: Browser) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_console(world: World, **options: Any) -> Page:
        context = chromium.new_context(base_url=world.address, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Your name").fill("Ida")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        return page

    yield open_console
    for context in contexts:
        context.close()


def busy_world(make_world: MakeWorld) -> World:
    """A conflict, three to review, one whom ION refuses, and an event that can't be used."""

    def make(**options: Any) -> World:
        made = make_world(**options)
        made.environ["SYNCD_ADMIN__TOKEN"] = TOKEN
        return made

    world, _ = contested_world(make, "live")
    for number, name in enumerate(("Harbour Lights", "Casa Verde", "Nordlicht")):
        world.ion.add(**{**customer(name), "email": f"a{number}@here.example"})
        there = {**customer(name), "email": f"b{number}@there.example", "country": "GB", "phone": "+442079460018"}
        there["address"] = {"street": "7 Market Place", "suite": "", "city": "Leeds", "state": "", "zip": "LS1"}
        world.topics.edit(f"R{number}", **there)
    world.topics.send("C9", b"not JSON")
    world.topics.flush()
    eventually(lambda: len(world.look("review")) >= 3, "three wait to be told whom they are")
    eventually(lambda: world.look("dead-letters"), "the event is set aside")
    return world


def test_what_people_come_for_is_a_few_clicks_away(make_world: MakeWorld, sign_in: Callable[..., Page]) -> None:
    """Find a conflict, see who won and why, put the other value back, see it cross; settle three reviews; pause."""
    world = busy_world(make_world)
    page = sign_in(world)
    page.get_by_role("link", name="Conflicts").click()
    row = page.get_by_role("row", name="company").first
    expect(row).to_contain_text("later-edit")
    row.get_by_role("link", name="C1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("C1 From the CRM")
    expect(page.locator(".story")).to_contain_text("later-edit, CRM won")
    page.get_by_role("button", name="Put back").first.click()
    expect(page.get_by_role("status")).to_contain_text("company of C1 again; from there it goes to ION")
    [command] = eventually(lambda: asked_of_crm(world, company="From ION"), "the CRM is asked")
    carry_out(world, command)
    eventually(lambda: "From ION" in [c["company"] for c in world.ion.customers().values()], "it crosses")
    page.reload()
    expect(page.locator(".story")).to_contain_text("undo")
    expect(page.locator(".story")).to_contain_text("Ida in the console")
    expect(page.get_by_text("the CRM holds it again")).to_be_visible()

    page.get_by_role("link", name="Review").click()
    links = len(world.links())
    page.get_by_role("button", name="One and the same").first.click()
    expect(page.get_by_role("status")).to_contain_text("are linked")
    assert len(world.links()) == links + 1

    def settled() -> bool:
        page.reload()
        for button in page.get_by_role("button", name="Not the same").all()[:1]:
            button.click()
            expect(page.get_by_role("status")).to_contain_text("are not one")
        return page.get_by_role("article").count() == 0

    eventually(settled, "nobody waits any more")

    page.get_by_role("link", name="Overview").click()
    page.get_by_role("button", name="Stop all writes").click()
    expect(page.get_by_role("status")).to_contain_text("Writes are stopped")
    assert world.json("status")["is_paused"]
    page.get_by_role("link", name="Customers").click()
    expect(page.get_by_text("Writes to both sides are stopped")).to_be_visible()
    page.get_by_role("link", name="load this page again").click()
    page.get_by_role("link", name="leave this page as it is").click()
    page.get_by_role("button", name="Let writes go on").click()
    assert not world.json("status")["is_paused"]

    page.get_by_role("link", name="Dead letters").click()
    page.get_by_role("link", name=re.compile(r"^\d+$")).first.click()
    expect(page.locator("pre")).to_have_text("not JSON")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("status")).to_contain_text("0 of 1 events are stored now")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_held_changes_are_approved_and_who_is_set_aside_is_released(
    make_world: MakeWorld, sign_in: Callable[..., Page]
) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start(SYNCD_ADMIN__TOKEN=TOKEN, SYNCD_GUARD__MAX_CREATES="2")
    for number in range(4):
        world.topics.send(
            f"C{number}", {"type": "changed", "id": f"C{number}", "customer": customer(f"New {number}")}
        )
    world.topics.flush()
    page = sign_in(world)
    eventually(lambda: bool(page.goto("/plan")) and page.get_by_text("Held:").count(), "the plan is held")
    expect(page.locator("tbody tr").first).to_contain_text("New 0")
    page.get_by_role("button", name="Let exactly these go").click()
    expect(page.get_by_role("status")).to_contain_text("4 changes may go now")
    eventually(lambda: len(world.ion.customers()) == 4, "they are created")

    world.wait_until_idle()
    world.ion.fault("status", "update", code=400)
    world.topics.edit("C1", title="Refused at first")
    eventually(lambda: bool(page.goto("/quarantine")) and page.get_by_text("C1").count(), "it is set aside")
    page.get_by_role("button", name="Try again now").click()
    expect(page.get_by_role("status")).to_contain_text("C1 is tried again now")
    eventually(
        lambda: "Refused at first" in [c.get("title") for c in world.ion.customers().values()], "and is written now"
    )

    page.goto("/customers")
    page.get_by_label("Company").fill("new")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_label("Company").fill("new 2")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("C2 New 2")
    page.get_by_text("Erase its past").first.click()
    page.get_by_role("button", name="Erase its past").click()
    expect(page.get_by_role("status")).to_contain_text("Erased")
    page.get_by_text("Take the link apart").first.click()
    page.get_by_role("button", name="Take the link apart").click()
    expect(page.get_by_role("status")).to_contain_text("are two")
    page.goto("/customers/nobody-of-that-name")
    expect(page.get_by_role("alert")).to_contain_text("nothing is known of nobody-of-that-name")


def test_each_page_is_accessible_in_light_and_dark_and_on_a_phone(
    make_world: MakeWorld, sign_in: Callable[..., Page]
) -> None:
    world = busy_world(make_world)
    letter = f"/dead-letters/{world.json('dead-letters', 'list')[0]['id']}"
    for look, options in LOOKS.items():
        look_at(sign_in(world, **options), (*PAGES, "/customers/C1", letter, "/login"), look)


def look_at(page: Page, paths: Sequence[str], look: str) -> None:
    """Each page keeps to the screen, has nothing that axe finds, and has its picture taken."""
    for path in paths:
        page.goto(path)
        found = Axe().run(page)
        name = path.strip("/").split("/")[0] + ("-one" if path.count("/") > 1 else "") or "overview"
        page.screenshot(path=screenshots() / f"{name}-{look}.png", full_page=True)
        assert found.violations_count == 0, (look, path, found.generate_report())
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{path} is wider than the {look} screen by {width} pixels"


def test_orders_are_let_go_and_licences_looked_at(make_world: MakeWorld, sign_in: Callable[..., Page]) -> None:
    world = make_world(dialect="live", customers=6, calls_per_minute=600)
    orders = f"{world.topics.events}.orders"
    world.start(SYNCD_ADMIN__TOKEN=TOKEN, SYNCD_KAFKA__ORDERS_TOPIC=orders)
    eventually(lambda: world.json("status")["complete_sweep_age_seconds"] is not None, "ION was listed")
    assert world.syncd("links", "add", "C1", "300001").returncode == 0
    assert world.syncd("ion", "products", "import").returncode == 0
    page = sign_in(world)
    page.get_by_role("link", name="Licences").click()
    expect(page.get_by_text("No snapshot of the licences was taken yet")).to_be_visible()
    assert world.syncd("ion", "subscriptions", "snapshot").returncode == 0
    for number, one in enumerate(http("GET", f"{world.ion.url}/_sim/shop")["subscriptions"][:3]):
        http("PATCH", f"{world.ion.url}/_sim/subscriptions/{one['id']}", {"seats": one["seats"] + number + 1})
    assert world.syncd("ion", "subscriptions", "snapshot").returncode == 0
    page.reload()
    expect(page.get_by_role("group", name="What moved").locator("tbody tr")).to_have_count(3)
    eventually(lambda: world.sql("SELECT 1 FROM notes WHERE name = 'orders_since'"), "orders are taken")
    for number, quantity in enumerate((500, 5, 700), 1):
        item = {"product": "901", "sku": "CFQ7TTC0LCHC", "plan": "P1M", "quantity": quantity}
        told = {"id": f"SO-100{number}", "customer": "C1", "items": [item]}
        world.topics.send(f"SO-100{number}", told, topic=orders)
    world.topics.flush()
    eventually(lambda: [o["state"] for o in world.look("orders")] == ["held", "placed", "held"], "two are dear")
    for look, options in LOOKS.items():
        look_at(sign_in(world, **options), SHOP_PAGES, look)
    page.get_by_role("link", name="Orders").click()
    page.get_by_role("row", name="SO-1001").get_by_role("button", name="Let it go").click()
    expect(page.get_by_role("status")).to_have_text("Order SO-1001 goes to ION now.")
    page.get_by_role("row", name="SO-1003").get_by_role("button", name="Drop").click()
    expect(page.get_by_role("status")).to_have_text("Order SO-1003 is dropped, and the CRM is told.")
    eventually(
        lambda: [o["state"] for o in world.look("orders")] == ["placed", "placed", "dropped"], "as it was said"
    )
    page.get_by_role("link", name="dropped").click()
    expect(page.locator("tbody tr")).to_have_count(1)


def test_links_come_from_a_file_and_a_token_from_a_person(
    make_world: MakeWorld, sign_in: Callable[..., Page], tmp_path: Path
) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    theirs = [world.ion.add(**customer(f"Other {number}")) for number in range(2)]
    world.start(SYNCD_ADMIN__TOKEN=TOKEN, SYNCD_SYNC__CREATE_IN_CRM="false")
    page = sign_in(world)
    page.get_by_role("link", name="Customers").click()
    page.get_by_role("link", name="Links from a file").click()
    file = tmp_path / "links.csv"
    file.write_text(f"crm_id,ion_id\nC0,{theirs[0]}\nC1,{theirs[1]}\nC1,{theirs[0]}\n")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("2 new, 0 known already, 1 can't be linked")
    expect(page.locator("tbody tr").first).to_contain_text(f"C1 is linked to {theirs[1]}")
    assert world.links() == {}, "it was only looked at"
    page.get_by_role("button", name="Make the new links").click()
    expect(page.get_by_role("status")).to_have_text("2 links were made.")
    assert world.links() == {"C0": theirs[0], "C1": theirs[1]}
    page.goto("/links/import")
    file.write_text("no,csv,of\nours,at,all\n")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_role("alert")).to_contain_text("needs a first line with the columns crm_id and ion_id")

    page.get_by_role("link", name="To the overview").click()
    page.get_by_text("Give a new refresh token").click()
    page.get_by_label("From ION").fill("two words")
    page.get_by_role("button", name="Store it").click()
    expect(page.get_by_role("alert")).to_contain_text("not a refresh token")
    page.goto("/")
    refreshes = world.ion.state()["refreshes"]
    page.get_by_text("Give a new refresh token").click()
    page.get_by_label("From ION").fill(http("POST", f"{world.ion.url}/_sim/tokens/issue")["refresh_token"])
    page.get_by_role("button", name="Store it").click()
    expect(page.get_by_role("status")).to_contain_text("The token is stored")
    page.get_by_role("link", name="Plan").click()
    expect(page.get_by_text("token-pasted")).to_be_visible()
    eventually(lambda: world.ion.state()["refreshes"] > refreshes, "it is used")


def test_the_keyboard_is_enough(make_world: MakeWorld, chromium: Browser) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start(SYNCD_ADMIN__TOKEN=TOKEN)
    context = chromium.new_context(base_url=world.address)
    page = context.new_page()
    page.goto("/login")
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Stop all writes":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Writes are stopped")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    context.close()


def test_it_works_without_javascript(make_world: MakeWorld, sign_in: Callable[..., Page]) -> None:
    world = make_world(dialect="live", customers=0, calls_per_minute=600)
    world.start(SYNCD_ADMIN__TOKEN=TOKEN)
    page = sign_in(world, java_script_enabled=False)
    for path in (*PAGES, *SHOP_PAGES):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto("/")
    page.get_by_role("button", name="Stop all writes").click()
    expect(page.get_by_role("status")).to_contain_text("Writes are stopped")
    assert http("GET", f"{world.address}/livez") == {"alive": True}
