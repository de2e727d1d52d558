"""``syncd ion …`` against the simulated ION over real sockets, in both dialects."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from syncd.ion.operations import OPERATIONS
from tests.integration.conftest import Shell
from tests.parts.shell import Said
from tests.parts.world import http

CUSTOMER = "300001"
SECRET = "s3cret-of-the-tenant"
LIVE_ITEM = {"productId": "901", "skuId": "CFQ7TTC0LCHC", "planId": "P1M", "quantity": 3}
ITEMS = {
    "live": {"orderItems": [{**LIVE_ITEM, "attributes": [{"name": "tenantAdminPassword", "value": SECRET}]}]},
    "seed": {"items": [{"productId": "901", "quantity": 3}]},
}
NEW_CUSTOMER = {
    "live": {
        "customerOrganization": "By Hand Ltd",
        "customerEmail": "ann@byhand.example",
        "customerName": "Ann",
        "languageCode": "EN",
        "customerAddress": {"street": "1 Main", "city": "Tampa", "state": "FL", "zip": "33602", "country": "US"},
    },
    "seed": {"companyName": "By Hand Ltd", "email": "ann@byhand.example", "country": "US"},
}


def test_every_operation_works_or_says_what_the_dialect_lacks(shell: Shell) -> None:
    """Each operation of the table by its command; what one answers names what the next one asks for."""
    is_live, of = shell.dialect == "live", ("--customer", CUSTOMER)
    asked = dict[str, Said]()

    def ask(name: str, *arguments: str) -> Said:
        asked[name] = shell.run("ion", *name.split(), *arguments, "--json")
        return asked[name]

    def lacks(name: str, *arguments: str) -> None:
        said = ask(name, *arguments)
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert said.err.startswith("syncd: the seed dialect of ION ")

    assert len(ask("customers list").json) == 7
    assert CUSTOMER in str(ask("customers get", CUSTOMER).json)
    made = ask("customers create", "--data", json.dumps(NEW_CUSTOMER[shell.dialect]))
    assert "By Hand Ltd" in made.out
    assert "generated-secret" not in made.out
    assert len(ask("products list", "--limit", "120").json) == 120
    assert ask("products get", "901").json
    assert len(ask("subscriptions list", *of).json) == 1
    [seat] = shell.run("ion", "subscriptions", "list", *of, "--csv").out.splitlines()[1:]
    subscription = seat.partition(",")[0]
    assert ask("subscriptions get", subscription, *of).json
    assert ask("subscriptions update", subscription, *of, "--quantity", "77").json
    assert seats_of(shell, subscription) == 77
    order = ask("orders create", *of, "--data", json.dumps(ITEMS[shell.dialect])).json
    order_id = order["name"].rsplit("/", 1)[-1] if is_live else order["orderId"]
    assert order_id in ask("orders list", *of).out
    assert ask("orders get", order_id).json == order
    cart = ask("carts create", *of, "--data", "{}" if is_live else json.dumps(ITEMS["seed"])).json
    cart_id = cart["id" if is_live else "cartId"]
    assert ask("reports list").json
    if is_live:
        changed = {"action": "UPDATE", "resourceId": subscription, **LIVE_ITEM, "quantity": 78}
        assert (
            ask("orders update", *of, "--data", json.dumps({"orderItems": [changed]})).json["status"] == "COMPLETED"
        )
        assert seats_of(shell, subscription) == 78
        assert ask("orders cancel", order_id, *of).json["status"] == "CANCELED"
        assert ask("carts add", cart_id, *of, "--data", json.dumps(LIVE_ITEM)).json
        assert ask("verticals list").json
        assert ask("templates get", "1").json
        assert ask("templates by-vendor", "Microsoft").json
        assert ask("reports data", "11").json[0]["customer"] == CUSTOMER
    else:
        lacks("orders update", *of, "--data", "{}")
        lacks("orders cancel", order_id, *of)
        lacks("carts add", cart_id, *of, "--data", "{}")
        lacks("verticals list")
        lacks("templates get", "1")
        lacks("templates by-vendor", "Microsoft")
        lacks("reports data", "11")
    assert ask("carts checkout", cart_id, *of).json
    assert shell.run("ion", "carts", "checkout", cart_id, *of).code == 1, "once"
    hidden = {"phone": "", "address": {}} if not is_live else {}
    changes = {"customerOrganization" if is_live else "companyName": "Renamed Ltd", **hidden}
    assert "Renamed Ltd" in ask("customers update", CUSTOMER, "--data", json.dumps(changes)).out
    assert set(asked) == set(OPERATIONS)


def seats_of(shell: Shell, subscription: str) -> int:
    rows = http("GET", f"{shell.ion.url}/_sim/shop")["subscriptions"]
    return next(int(row["seats"]) for row in rows if row["id"] == subscription)


def test_long_lists_are_read_page_by_page_and_no_further_than_wanted(shell: Shell) -> None:
    before = shell.sent("list_products")
    assert len(shell.run("ion", "products", "list", "--json").json) == 100
    assert shell.sent("list_products") - before == 1
    rows = list(csv.DictReader(io.StringIO(shell.run("ion", "products", "list", "--all", "--csv").out)))
    assert len({row["id"] for row in rows}) == len(rows) == 255
    assert rows[0] == {
        "id": "901",
        "name": "Microsoft 365 Business Premium",
        "vendor": "Microsoft",
        "category": "Productivity",
        "sku": "CFQ7TTC0LCHC",
        "price": "22.0",
        "currency": "USD",
    }
    assert "Azure Plan" in shell.run("ion", "products", "list").out, "and as a table"


def test_a_customer_is_changed_in_what_was_said_and_in_nothing_else(shell: Shell) -> None:
    before = shell.ion.customers()[CUSTOMER]
    if shell.dialect == "live":
        data = {"customerTitle": "Boss", "customerAddress": {"city": "Utica"}}
        assert shell.run("ion", "customers", "update", CUSTOMER, "--data", json.dumps(data)).code == 0
        after = shell.ion.customers()[CUSTOMER]
        assert after["address"] == {**before["address"], "city": "Utica"}
        changed = {name for name in before if before[name] != after[name]} - {"updated"}
        assert changed == {"title", "address"}
    else:
        said = shell.run("ion", "customers", "update", CUSTOMER, "--data", '{"companyName": "Renamed Ltd"}')
        assert (said.code, "never shows address and phone" in said.err) == (1, True)
        assert shell.ion.customers()[CUSTOMER] == before


def test_an_order_whose_answer_is_lost_is_made_once_and_said_to_be_looked_up(shell: Shell) -> None:
    shell.ion.fault("reset-after", "create_order", count=5)
    said = shell.run("ion", "orders", "create", "--customer", CUSTOMER, "--data", json.dumps(ITEMS[shell.dialect]))
    assert said.code == 1
    assert "may have been done" in said.err
    assert shell.sent("create_order") == 1
    assert len(http("GET", f"{shell.ion.url}/_sim/shop")["orders"]) == 1


def test_nothing_is_written_by_hand_while_writes_are_paused_and_what_is_written_is_in_the_log(
    shell: Shell, tmp_path: Path
) -> None:
    data = json.dumps(ITEMS[shell.dialect])
    assert shell.run("db", "upgrade").code == 0
    assert shell.run("pause").code == 0
    said = shell.run("ion", "orders", "create", "--customer", CUSTOMER, "--data", data)
    assert (said.code, "syncd resume" in said.err) == (3, True)
    assert shell.run("ion", "request", "DELETE", "customers/1/carts/1").code == 3
    assert shell.sent("create_order") == 0
    assert shell.run("ion", "products", "get", "901").code == 0, "looking is free"
    assert shell.run("resume").code == 0
    assert shell.run("ion", "orders", "create", "--customer", CUSTOMER, "--data", "{}").code == 1
    assert shell.run("ion", "orders", "create", "--customer", CUSTOMER, "--data", data).code == 0
    with sqlite3.connect(tmp_path / "syncd.db") as database:
        whats = [what for (what,) in database.execute("SELECT what FROM decisions ORDER BY id")]
    database.close()
    assert whats == ["paused", "resumed", "sent-by-hand"], "what was refused or wrong was not sent"


def test_the_secret_of_an_order_is_shown_by_nothing(shell: Shell) -> None:
    data = json.dumps({**ITEMS["live"], **ITEMS["seed"]})
    said = [
        shell.run("ion", "orders", "create", "--customer", CUSTOMER, "--data", data, *way)
        for way in ((), ("--json",))
    ]
    said += [shell.run("ion", "orders", "list", way) for way in ("--json", "--csv")]
    said.append(shell.run("ion", "request", "GET", "accounts/20481/orders"))
    assert all(one.code == 0 for one in said)
    assert SECRET not in str(said)


BAD = [
    (("orders", "create", "--customer", CUSTOMER, "--data", "{"), "--data is not JSON"),
    (("orders", "create", "--customer", CUSTOMER, "--data", "[]"), "must be a JSON object"),
    (("orders", "create", "--customer", CUSTOMER, "--data", '{"quantity": NaN}'), "--data is not JSON"),
    (("request", "GET", "http://[x"), "must be a path below /api/v3"),
    (("orders", "create", "--customer", CUSTOMER, "--data", "@/nowhere"), "can't be read"),
    (("customers", "get", "../7"), "is no id of a customer"),
    (("customers", "get", "999"), "404"),
    (("subscriptions", "update", "7", "--customer", CUSTOMER), "quantity, status or autoRenew"),
    (("request", "PATCH", "accounts"), "is no method of ION"),
    (("request", "GET", "https://elsewhere.example/x"), "must be a path below /api/v3"),
    (("request", "GET", "../oauth/token"), "must be a path below /api/v3"),
    (("request", "GET", "accounts/1/customers?pageSize=1"), "403"),
]


def test_a_mistake_is_one_sentence_that_says_what_is_wrong(shell: Shell) -> None:
    for arguments, said in BAD:
        told = shell.run("ion", *arguments)
        assert (told.code, told.out, told.err.count("\n")) == (1, "", 1), told
        assert said in told.err


def test_what_ion_refuses_is_told_with_its_field_and_was_sent_once(shell: Shell) -> None:
    key = "orderItems" if shell.dialect == "live" else "items"
    for number, (product, customer, said) in enumerate(
        [("000", CUSTOMER, "unknown product 000"), ("901", "999", "unknown customer 999")], 1
    ):
        data = json.dumps({key: [{**LIVE_ITEM, "productId": product}]})
        told = shell.run("ion", "orders", "create", "--customer", customer, "--data", data)
        assert told.code == 1
        assert said in told.err
        assert shell.sent("create_order") == number


@pytest.mark.parametrize("products", [20_000])
def test_a_second_import_of_a_large_catalogue_tells_only_what_changed(shell: Shell, tmp_path: Path) -> None:
    first = shell.run("ion", "products", "import", "--json").json
    assert (first["listed"], first["new"], first["changed"], first["prices"]) == (20_005, 20_005, 0, 20_005)
    assert (first["calls"], first["problems"]) == (shell.sent("list_products"), [])
    assert first["calls"] <= 21, "the largest pages that are taken"
    assert len(told(tmp_path)) == 20_005
    http("PATCH", f"{shell.ion.url}/_sim/products/901", {"price": 25.5})
    http("PATCH", f"{shell.ion.url}/_sim/products/905", {"name": "Endpoint Security Total"})
    second = shell.run("ion", "products", "import")
    assert second.out == f"20005 products listed in {first['calls']} calls: 0 new, 2 changed, 1 prices moved.\n"
    assert [(key, product["id"]) for key, product in told(tmp_path)[20_005:]] == [
        ("synnex/901", "901"),
        ("synnex/905", "905"),
    ]
    history = shell.run("ion", "products", "prices", "901", "--json").json
    assert [(row["sku"], row["price"]) for row in history] == [("CFQ7TTC0LCHC", "22.0"), ("CFQ7TTC0LCHC", "25.5")]
    assert "No price of product 9 is known" in shell.run("ion", "products", "prices", "9").out


def told(folder: Path) -> list[tuple[str, Any]]:
    """What waits to be sent, in order."""
    with sqlite3.connect(folder / "syncd.db") as database:
        rows = list(database.execute("SELECT topic, key, value FROM messages ORDER BY id"))
    database.close()
    assert {topic for topic, _, _ in rows} == {"syncd.products"}
    return [(key.decode(), json.loads(value)) for _, key, value in rows]
