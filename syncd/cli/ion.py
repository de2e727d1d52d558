"""``ion``: what ION offers beside customer sync, by hand, within the shared budget. Needs no Kafka."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from syncd.cli.output import (
    AsJson,
    person,
    print_json,
    print_table,
    print_view,
    print_views,
    progress,
    with_desk,
    with_store,
)

if TYPE_CHECKING:
    from syncd.chores import DoneImport, DoneSnapshot
    from syncd.core.catalogue import Price
    from syncd.core.policy import Dialect
    from syncd.engine.licences import Change
    from syncd.ion.market import Market
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

app = typer.Typer(
    help="Customers, products, orders, subscriptions, carts and reports of ION by hand, within the shared budget.",
    no_args_is_help=True,
)


def _group(name: str, help: str) -> typer.Typer:
    group = typer.Typer(help=help, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


customers = _group("customers", "ION's customers. What is made or changed here, syncd sees at its next sweep.")
products = _group("products", "The catalogue.")
verticals = _group("verticals", "What markets products are sold in.")
templates = _group("templates", "Provisioning templates: what a vendor wants to know with an order.")
orders = _group("orders", "Orders: they cost money, and none is sent twice by syncd.")
subscriptions = _group("subscriptions", "What customers are subscribed to.")
carts = _group("carts", "Carts, which become orders.")
reports = _group("reports", "ION's reports.")

Customer = Annotated[str, typer.Option("--customer", help="ION's id of the customer.")]
OfCustomer = Annotated[str | None, typer.Option("--customer", help="ION's id of the customer.")]
Data = Annotated[str, typer.Option("--data", help="The body: JSON, @FILE, or - for standard input.")]
MaybeData = Annotated[str | None, typer.Option("--data", help="The body: JSON, @FILE, or - for standard input.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]
All = Annotated[bool, typer.Option("--all", help="All of them, however many calls that takes.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Narrow = Annotated[str | None, typer.Option(help="Only those; see docs/ion.md for what each dialect can do.")]

Result = TypeVar("Result")


# -- customers


@customers.command("list")
def list_customers(
    context: typer.Context,
    email: Narrow = None,
    contact: Narrow = None,
    limit: Limit = 100,
    is_all: All = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """The customers of the account."""
    found = _rows(context, "customers list", None if is_all else limit, email=email, contact=contact)
    _show_rows(*found, as_json, as_csv)


@customers.command("get")
def get_customer(context: typer.Context, customer: str, as_json: AsJson = False) -> None:
    """One customer as ION holds it."""
    _show(_done(context, "customers get", customer=customer), as_json)


@customers.command("create")
def create_customer(context: typer.Context, data: Data, as_json: AsJson = False) -> None:
    """A new customer. ION has no deletion."""
    _show(_done(context, "customers create", _body(data)), as_json)


@customers.command("update")
def update_customer(context: typer.Context, customer: str, data: Data, as_json: AsJson = False) -> None:
    """Change some of a customer's fields; the others are sent back as ION holds them."""
    changes = _body(data)
    found = _with_market(context, lambda market, *_: market.update_customer(customer, changes))
    _show(found, as_json)


# -- products, verticals, templates


@products.command("list")
def list_products(
    context: typer.Context,
    name: Narrow = None,
    sku: Narrow = None,
    part: Narrow = None,
    provider: Narrow = None,
    language: Narrow = None,
    vendor: Narrow = None,
    category: Narrow = None,
    currency: Narrow = None,
    limit: Limit = 100,
    is_all: All = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """The catalogue. A product may have more SKUs, plans and prices than its row shows: see `get`."""
    named = {"name": name, "sku": sku, "part": part, "provider": provider, "language": language}
    named |= {"vendor": vendor, "category": category, "currency": currency}
    _show_rows(*_rows(context, "products list", None if is_all else limit, **named), as_json, as_csv)


@products.command("get")
def get_product(context: typer.Context, product: str, as_json: AsJson = False) -> None:
    """One product with its SKUs, plans and prices."""
    _show(_done(context, "products get", product=product), as_json)


@products.command("import")
def import_products(context: typer.Context, as_json: AsJson = False) -> None:
    """Read the whole catalogue into the database, and tell of what is new or changed on its topic.

    The daemon sends what is to be told. It can be broken off and begun again; after the first time only changes
    are told.
    """
    from syncd.chores import import_products

    async def work(market: Market, store: SqlStore, settings: Settings) -> tuple[DoneImport, int]:
        with progress("products") as tell:
            done = await import_products(market, store, settings.kafka, lambda listed: tell(listed, None))
        return done, market.calls

    (done, problems), calls = _with_market(context, work)
    if as_json:
        print_json({**asdict(done), "calls": calls, "problems": problems})
        return
    _left_out(problems)
    typer.echo(
        f"{done.listed} products listed in {calls} calls: {done.new} new, {done.changed} changed,"
        f" {done.prices} prices moved."
    )


def _left_out(problems: list[str]) -> None:
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)


@products.command("prices")
def prices(context: typer.Context, product: str, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """How a product's prices moved, as far as imports have seen it. Asks the database, not ION."""
    from syncd.core.instants import when

    async def read(store: SqlStore, _: Settings) -> list[Price]:
        async with store.begin() as unit:
            return await unit.prices_of(product)

    found = with_store(context, read)
    columns = ["sku", "plan", "phase", "price", "currency", "since"]
    rows = [
        [*one.key, None if one.price is None else format(one.price, "f"), one.currency, when(one.since)]
        for one in found
    ]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        csv.writer(sys.stdout).writerows([columns, *rows])
    else:
        print_table(columns, rows, f"No price of product {product} is known: `syncd ion products import` reads them.")


@verticals.command("list")
def list_verticals(context: typer.Context, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """The verticals."""
    _show_rows(*_rows(context, "verticals list", None), as_json, as_csv)


@templates.command("get")
def get_template(context: typer.Context, template: str, as_json: AsJson = False) -> None:
    """One provisioning template."""
    _show(_done(context, "templates get", template=template), as_json)


@templates.command("by-vendor")
def templates_by_vendor(context: typer.Context, vendor: str, as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """A vendor's provisioning templates."""
    _show_rows(*_rows(context, "templates by-vendor", None, vendor=vendor), as_json, as_csv)


# -- orders


@orders.command("list")
def list_orders(
    context: typer.Context,
    customer: OfCustomer = None,
    status: Narrow = None,
    limit: Limit = 100,
    is_all: All = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """The orders of the account, or of one customer."""
    found = _rows(context, "orders list", None if is_all else limit, customer=customer, status=status)
    _show_rows(*found, as_json, as_csv)


@orders.command("get")
def get_order(context: typer.Context, order: str, customer: OfCustomer = None, as_json: AsJson = False) -> None:
    """One order. The live dialect looks at all customers where none is named."""
    _show(_done(context, "orders get", order=order, customer=customer), as_json)


@orders.command("create")
def create_order(context: typer.Context, data: Data, customer: OfCustomer = None, as_json: AsJson = False) -> None:
    """A new order. If its answer is lost, it may have been made: look with `list` before you try again."""
    _show(_done(context, "orders create", _body(data), customer=customer), as_json)


@orders.command("update")
def update_order(context: typer.Context, data: Data, customer: Customer, as_json: AsJson = False) -> None:
    """An order whose items change subscriptions: each has the action UPDATE and names its resourceId."""
    _show(_done(context, "orders update", _body(data), customer=customer), as_json)


@orders.command("cancel")
def cancel_order(context: typer.Context, order: str, customer: Customer, as_json: AsJson = False) -> None:
    """Cancel an order, while it is new or on hold."""
    _show(_done(context, "orders cancel", {}, order=order, customer=customer), as_json)


@orders.command("incoming")
def incoming_orders(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="Only those that are waiting, held, unknown, placed, ended, refused…")
    ] = None,
    limit: Limit = 100,
    after: Annotated[str, typer.Option(help="Ids after this one, for the next page.")] = "",
    as_json: AsJson = False,
) -> None:
    """What the CRM has ordered over Kafka, and what has become of it. Asks the database, not ION."""
    from syncd.admin import views
    from syncd.core.errors import UserError
    from syncd.core.order import OrderState

    if state is not None and state not in list(OrderState):
        raise UserError(f"no order is {state}: it is one of {', '.join(OrderState)}")
    wanted = OrderState(state) if state else None
    found = views.many(views.Order, with_desk(context, lambda desk: desk.orders(wanted, after, limit)))
    if as_json:
        print_views(found)
        return
    rows = [
        (o.id, o.customer, o.state, o.since, ", ".join(o.items), o.value, o.currency, o.ion_order, o.reason)
        for o in found
    ]
    columns = ("order", "customer", "state", "since", "items", "value", "currency", "in ION", "reason")
    print_table(columns, rows, "The CRM has sent no such order.")
    if len(found) >= limit:
        typer.echo(f"More: syncd ion orders incoming --after {found[-1].id}")


@orders.command("release")
def release_order(
    context: typer.Context,
    order: str,
    ion_order: Annotated[
        str | None, typer.Option("--as", help="It is this order in ION already: send nothing.")
    ] = None,
) -> None:
    """Let an order of the CRM's go that is held, or try one again that was refused."""
    with_desk(context, lambda desk: desk.release_order(order, person(), ion_order))
    goes = f"is ION's {ion_order}" if ion_order else "goes to ION as soon as the daemon gets to it"
    typer.echo(f"Order {order} {goes}.")


@orders.command("drop")
def drop_order(context: typer.Context, order: str) -> None:
    """Say no to an order of the CRM's that was not sent, or was refused; the CRM is told."""
    with_desk(context, lambda desk: desk.drop_order(order, person()))
    typer.echo(f"Order {order} is dropped.")


# -- subscriptions


@subscriptions.command("list")
def list_subscriptions(
    context: typer.Context,
    customer: OfCustomer = None,
    status: Narrow = None,
    provider: Narrow = None,
    limit: Limit = 100,
    is_all: All = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """The subscriptions of a customer; in the live dialect also those of all."""
    named = {"customer": customer, "status": status, "provider": provider}
    _show_rows(*_rows(context, "subscriptions list", None if is_all else limit, **named), as_json, as_csv)


@subscriptions.command("get")
def get_subscription(context: typer.Context, subscription: str, customer: Customer, as_json: AsJson = False) -> None:
    """One subscription."""
    _show(_done(context, "subscriptions get", subscription=subscription, customer=customer), as_json)


@subscriptions.command("update")
def update_subscription(
    context: typer.Context,
    subscription: str,
    customer: Customer,
    quantity: Annotated[int | None, typer.Option(help="How many seats.")] = None,
    status: Annotated[
        str | None, typer.Option(help="active, suspended or cancelled; not in the live dialect.")
    ] = None,
    auto_renew: Annotated[bool | None, typer.Option(help="Not in the live dialect.")] = None,
    data: MaybeData = None,
    as_json: AsJson = False,
) -> None:
    """Change a subscription's seats; the live dialect does so by an order, which is shown."""
    changes = {"quantity": quantity, "status": status, "autoRenew": auto_renew}
    told = {**(_body(data) if data else {}), **{name: to for name, to in changes.items() if to is not None}}
    found = _with_market(context, lambda market, *_: market.update_subscription(customer, subscription, told))
    _show(found, as_json)


@subscriptions.command("snapshot")
def snapshot(context: typer.Context, as_json: AsJson = False) -> None:
    """Read all subscriptions into the database, and tell on their topics what moved since the last time.

    The daemon does so once a week; it can be broken off and begun again. One call a page; in the seed dialect one a
    customer.
    """
    from syncd.chores import snapshot_licences

    async def work(market: Market, store: SqlStore, settings: Settings) -> DoneSnapshot:
        with progress("subscriptions") as tell:
            return await snapshot_licences(market, store, settings.kafka, lambda listed: tell(listed, None))

    done, problems = _with_market(context, work)
    change = _last_change(context, None)
    if as_json:
        counts = {"subscriptions": done.subscriptions, "seats": done.seats, "calls": done.calls}
        print_json({**counts, "moved": len(change.drift) if change else 0, "problems": problems})
        return
    _left_out(problems)
    typer.echo(
        f"{done.subscriptions} subscriptions listed in {done.calls} calls: {done.seats} active seats,"
        f" {len(change.drift) if change else 0} moved since the snapshot before."
    )


@subscriptions.command("drift")
def drift(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(help="Since this time; else in the newest snapshot.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """How seats moved, and which are not under contract. Asks the database, not ION."""
    from syncd.admin import views

    found = _last_change(context, since)
    if found is None:
        typer.echo("There is no snapshot yet: `syncd ion subscriptions snapshot` takes one.")
        return
    shown = views.Licences.of(found)
    if as_json:
        print_view(shown)
        return
    columns = ("found", "customer", "company", "vendor", "SKU", "kind", "was", "is")
    rows = [(d.at, d.customer, d.company, d.vendor, d.sku, d.kind, d.was, d.seats) for d in shown.drift]
    if as_csv:
        csv.writer(sys.stdout).writerows([columns, *rows])
        return
    print_table(columns, rows, "No seats moved.")
    if shown.gaps:
        gaps = [(g.customer, g.company, g.sku, g.contracted, g.seats) for g in shown.gaps]
        print_table(("customer", "company", "SKU", "under contract", "in ION"), gaps, "")


@subscriptions.command("digest")
def digest(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(help="Since this time; else of the newest snapshot.")] = None,
    as_html: Annotated[bool, typer.Option("--html", help="HTML; without it Markdown.")] = False,
) -> None:
    """What moved, what it is worth, and what is not under contract, as a page to send on."""
    from syncd.admin.digest import html_of, markdown_of

    found = _last_change(context, since)
    if found is None:
        typer.echo("There is no snapshot yet: `syncd ion subscriptions snapshot` takes one.", err=True)
        raise typer.Exit(1)
    typer.echo(html_of(found) if as_html else markdown_of(found), nl=False)


def _last_change(context: typer.Context, since: str | None) -> Change | None:
    from syncd.core.instants import instant

    begin = None if since is None else instant(since)
    return with_desk(context, lambda desk: desk.licences(begin))


# -- carts and reports


@carts.command("create")
def create_cart(context: typer.Context, customer: Customer, data: MaybeData = None, as_json: AsJson = False) -> None:
    """A new cart; the seed dialect takes its items here."""
    _show(_done(context, "carts create", _body(data) if data else {}, customer=customer), as_json)


@carts.command("add")
def add_to_cart(context: typer.Context, cart: str, customer: Customer, data: Data, as_json: AsJson = False) -> None:
    """One more item."""
    _show(_done(context, "carts add", _body(data), cart=cart, customer=customer), as_json)


@carts.command("checkout")
def check_out(context: typer.Context, cart: str, customer: Customer, as_json: AsJson = False) -> None:
    """Make the cart an order. If the answer is lost, look at the orders before you try again."""
    _show(_done(context, "carts checkout", {}, cart=cart, customer=customer), as_json)


@reports.command("list")
def list_reports(
    context: typer.Context,
    module: Narrow = None,
    report_format: Annotated[str | None, typer.Option("--format", help="json or csv; seed dialect only.")] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """The reports there are."""
    _show_rows(*_rows(context, "reports list", None, module=module, format=report_format), as_json, as_csv)


@reports.command("data")
def report_data(
    context: typer.Context, report: str, data: MaybeData = None, as_json: AsJson = False, as_csv: AsCsv = False
) -> None:
    """A report's rows."""
    from syncd.ion.reports import read_report

    body = _body(data) if data else {}
    answer = _done(context, "reports data", body, report=report)
    columns, rows = read_report(answer)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        csv.writer(sys.stdout).writerows([columns, *rows])
    else:
        print_table(columns, rows, "The report is empty.")


@app.command("request")
def request(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help="GET, POST, PUT or DELETE.")],
    path: Annotated[str, typer.Argument(help="Below /api/v3, such as accounts/20481/products?pageSize=1.")],
    data: MaybeData = None,
) -> None:
    """Any call to ION with syncd's credentials, within the budget. Prints the answer as JSON, its secrets hidden."""
    from syncd.core.errors import UserError

    method = method.upper()
    if method not in ("GET", "POST", "PUT", "DELETE"):
        raise UserError(f"{method} is no method of ION: GET, POST, PUT or DELETE")
    body = _body(data) if data else None

    print_json(_with_market(context, lambda market, *_: market.request(method, path, body)))


# -- how it is asked and shown


def _with_market(
    context: typer.Context, work: Callable[[Market, SqlStore, Settings], Coroutine[Any, Any, Result]]
) -> Result:
    async def visit(store: SqlStore, settings: Settings) -> Result:
        from syncd.app import open_ion
        from syncd.engine.guard import by_hand
        from syncd.ion.market import Market

        async def ask_first(what: str, customer: str | None) -> None:
            async with store.begin() as unit:
                await by_hand(unit, what, customer, person(), await unit.time())

        async with open_ion(settings, store) as ion:
            return await work(Market(ion, store, ask_first), store, settings)

    return with_store(context, visit, migrate=True)


def _given(named: Mapping[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in named.items() if text}


def _done(context: typer.Context, name: str, body: Mapping[str, Any] | None = None, /, **named: str | None) -> Any:
    return _with_market(context, lambda market, *_: market.do(name, _given(named), body))


def _rows(
    context: typer.Context, name: str, limit: int | None, /, **named: str | None
) -> tuple[str, list[dict[str, Any]], Dialect]:
    """The resource, its rows, and the dialect that they are in; without ``limit`` all there are."""

    async def read(market: Market, *_: object) -> tuple[list[dict[str, Any]], Dialect]:
        dialect, found = await market.dialect(), list[dict[str, Any]]()
        with progress(name) as tell:
            async for page in market.pages(name, _given(named), limit):
                found += page
                tell(len(found), limit)
                if limit is not None and len(found) >= limit:
                    break
        return found[:limit], dialect

    return name.partition(" ")[0], *_with_market(context, read)


def _body(text: str) -> dict[str, Any]:
    import orjson

    from syncd.core.errors import UserError

    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        body = orjson.loads(text)
    except OSError as error:
        raise UserError(f"--data can't be read: {error.strerror}: {text[1:]}") from None
    except ValueError as error:
        raise UserError(f"--data is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise UserError('--data must be a JSON object, such as {"quantity": 5}')
    return body


def _show_rows(resource: str, raws: list[dict[str, Any]], dialect: Dialect, as_json: bool, as_csv: bool) -> None:
    from syncd.ion.rows import COLUMNS, row_of

    if as_json:
        print_json(raws)
        return
    columns = list(COLUMNS[resource])
    rows = [list(row_of(resource, raw, dialect).values()) for raw in raws]
    if as_csv:
        out = io.StringIO()
        csv.writer(out).writerows([columns, *rows])
        sys.stdout.write(out.getvalue())
    else:
        print_table(columns, rows, f"No {resource}.")


def _show(raw: Any, as_json: bool) -> None:
    if as_json:
        print_json(raw)
    else:
        print_table(("what", "value"), list(_flat(raw)), "ION answered with nothing.")


def _flat(raw: Any, at: str = "") -> list[tuple[str, object]]:
    """Nested values by their paths, one a line."""
    parts = raw.items() if isinstance(raw, Mapping) else enumerate(raw) if isinstance(raw, list) else None
    if parts is None:
        return [(at, raw)]
    return [row for key, part in parts for row in _flat(part, f"{at}.{key}" if at else str(key))]
