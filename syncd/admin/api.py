"""``/v1``: what a person can see and do, for machines. One table; routes and OpenAPI are made from it.

An operation's question is one model: fields that its path names come from there, the others from the
query, or of a POST from its JSON body. Its answer is a view.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StrictBool, WithJsonSchema

from syncd.admin import views
from syncd.admin.link_file import read_links
from syncd.core.errors import NotFound, UserError
from syncd.core.instants import instant
from syncd.core.link import LinkState
from syncd.core.order import OrderState
from syncd.core.values import Field as FieldName
from syncd.core.values import Millis
from syncd.core.work import SET_ASIDE, HoldKind
from syncd.engine.desk import Desk


def _instant(told: object) -> Millis:
    try:
        return instant(str(told))
    except UserError as error:
        raise ValueError(error.sentence) from None


def _plain_lines(told: object) -> object:
    """Browsers send a text back with other line ends than they got."""
    return told.replace("\r\n", "\n") if isinstance(told, str) else told


Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Number = Annotated[int, Field(ge=1, le=2**53)]
Limit = Annotated[int, Field(ge=1, le=1_000)]
After = Annotated[str, Field(max_length=210, pattern=r"^[^\x00-\x1f\x7f]*$")]
Time = Annotated[Millis, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Question):
    """No parameters."""


class Page(Question):
    after: After = ""
    """What comes after this one, for the next page."""
    limit: Limit = 100


class Links(Page):
    state: LinkState | None = None


class Link(Question):
    crm_id: Id


class Pair(Question):
    crm_id: Id
    ion_id: Id


class LinkFile(Question):
    csv: Annotated[str, BeforeValidator(_plain_lines), Field(max_length=50_000)]
    """Lines under a first one that names the columns ``crm_id`` and ``ion_id``."""
    apply: StrictBool = False
    """Make the new links; without it they are only shown."""


class NewToken(Question):
    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=5_000)]


class Customer(Question):
    customer: Id
    """A CRM id, or an ION id as ``ion:ID``."""


class Find(Question):
    find: Id
    """An id, or a part of the company or the e-mail."""
    limit: Limit = 100


class Story(Customer):
    field: FieldName | None = None


class Conflicts(Question):
    customer: Id | None = None
    """A CRM id."""
    before: Time | None = None
    limit: Limit = 100


class Conflict(Question):
    conflict: Id


class Orders(Page):
    state: OrderState | None = None


class Order(Question):
    order: Id
    """The CRM's id."""


class Licences(Question):
    since: Time | None = None
    """What moved since then; else in the newest snapshot."""


class Release(Order):
    ion_order: Id | None = None
    """It is this order in ION already: nothing is sent."""


class Planned(Question):
    limit: Annotated[int, Field(ge=1, le=10_000)] = 100


class Approve(Question):
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Letters(Question):
    before: Number | None = None
    limit: Limit = 100


class Letter(Question):
    letter: Number


class Steps(Question):
    limit: Limit = 100


class Holds(Page):
    kind: HoldKind | Literal["all"] | None = None
    """Without one: who is quarantined or frozen."""


class Done(views.View):
    done: bool
    """``false``: it was so already."""


class Imported(views.View):
    applied: bool
    lines: list[views.ImportLine]


class Approved(views.View):
    approved: int
    """Changes that may go now."""


class Redriven(views.View):
    is_stored: bool
    still_wrong: str | None


class Checked(views.View):
    """The log of decisions, looked through; ``wrong``: entries that are not as they were written."""

    entries: int
    erased: int
    unmarked: int
    wrong: list[int]


class Erased(views.View):
    entries: int
    conflicts: int
    dead_letters: int


Handle = Callable[[Desk, Any, str], Awaitable[Any]]
"""The desk, the question, and who asks."""


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    summary: str
    question: type[Question]
    answer: Any
    handle: Handle

    @property
    def name(self) -> str:
        return self.handle.__name__


async def status(desk: Desk, _: Nothing, by: str) -> views.Status:
    return views.Status.of(await desk.status())


async def list_links(desk: Desk, ask: Links, by: str) -> list[views.Link]:
    return views.many(views.Link, await desk.links(ask.state, ask.after, ask.limit))


async def add_link(desk: Desk, ask: Pair, by: str) -> Done:
    await desk.link(ask.crm_id, ask.ion_id, by)
    return Done(done=True)


async def remove_link(desk: Desk, ask: Link, by: str) -> views.Link:
    return views.Link.of(await desk.part(ask.crm_id, by))


async def import_links(desk: Desk, ask: LinkFile, by: str) -> Imported:
    lines = read_links(io.StringIO(ask.csv, newline=""), "the file")
    told = await desk.import_links(lines, by, is_meant=ask.apply)
    return Imported(applied=ask.apply, lines=views.many(views.ImportLine, told))


async def paste_token(desk: Desk, ask: NewToken, by: str) -> Done:
    await desk.paste_token(ask.refresh_token.get_secret_value(), by)
    return Done(done=True)


async def list_review(desk: Desk, ask: Page, by: str) -> list[views.Case]:
    return views.many(views.Case, await desk.cases(ask.after, ask.limit))


async def accept(desk: Desk, ask: Pair, by: str) -> Done:
    await desk.accept(ask.crm_id, ask.ion_id, by)
    return Done(done=True)


async def reject(desk: Desk, ask: Pair, by: str) -> Done:
    await desk.reject(ask.crm_id, ask.ion_id, by)
    return Done(done=True)


async def find(desk: Desk, ask: Find, by: str) -> list[views.Found]:
    return views.many(views.Found, await desk.find(ask.find, ask.limit))


async def explain(desk: Desk, ask: Story, by: str) -> views.Explanation:
    return views.Explanation.of(await desk.explain(ask.customer, ask.field))


async def erase(desk: Desk, ask: Customer, by: str) -> Erased:
    return Erased(**(await desk.erase(ask.customer, by))._asdict())


async def list_conflicts(desk: Desk, ask: Conflicts, by: str) -> list[views.Conflict]:
    return views.many(views.Conflict, await desk.conflicts(ask.customer, ask.before, ask.limit))


async def undo(desk: Desk, ask: Conflict, by: str) -> views.Intent:
    return views.Intent.of(await desk.undo(ask.conflict, None, by))


async def plan(desk: Desk, ask: Planned, by: str) -> views.Plan:
    return views.Plan.of(await desk.plan(), ask.limit)


async def approve(desk: Desk, ask: Approve, by: str) -> Approved:
    return Approved(approved=await desk.approve(ask.digest, by))


async def pause(desk: Desk, _: Nothing, by: str) -> Done:
    return Done(done=await desk.pause(by))


async def resume(desk: Desk, _: Nothing, by: str) -> Done:
    return Done(done=await desk.resume(by))


async def list_quarantine(desk: Desk, ask: Holds, by: str) -> list[views.Hold]:
    kinds = SET_ASIDE if ask.kind is None else tuple(HoldKind) if ask.kind == "all" else (ask.kind,)
    return views.many(views.Hold, await desk.holds(kinds, ask.after, ask.limit))


async def set_aside(desk: Desk, ask: Customer, by: str) -> views.SetAside:
    return views.SetAside.of(await desk.story(ask.customer))


async def release(desk: Desk, ask: Customer, by: str) -> Done:
    await desk.release(ask.customer, by)
    return Done(done=True)


async def list_dead_letters(desk: Desk, ask: Letters, by: str) -> list[views.DeadLetter]:
    return views.many(views.DeadLetter, await desk.letters(ask.before, ask.limit))


async def dead_letter(desk: Desk, ask: Letter, by: str) -> views.DeadLetter:
    return views.DeadLetter.of(await desk.letter(ask.letter))


async def redrive(desk: Desk, ask: Letter, by: str) -> Redriven:
    wrong = (await desk.redrive([ask.letter], by))[ask.letter]
    return Redriven(is_stored=wrong is None, still_wrong=wrong)


async def redrive_all(desk: Desk, _: Nothing, by: str) -> dict[int, str | None]:
    return await desk.redrive(None, by)


async def list_steps(desk: Desk, ask: Steps, by: str) -> list[views.Step]:
    return views.many(views.Step, await desk.steered(ask.limit))


async def check_log(desk: Desk, _: Nothing, by: str) -> Checked:
    found = await desk.check_log()
    return Checked(entries=found.entries, erased=found.erased, unmarked=found.unmarked, wrong=found.wrong)


async def list_divergences(desk: Desk, _: Nothing, by: str) -> list[views.Divergence]:
    return views.many(views.Divergence, await desk.divergences())


async def list_orders(desk: Desk, ask: Orders, by: str) -> list[views.Order]:
    return views.many(views.Order, await desk.orders(ask.state, ask.after, ask.limit))


async def release_order(desk: Desk, ask: Release, by: str) -> Done:
    await desk.release_order(ask.order, by, ask.ion_order)
    return Done(done=True)


async def drop_order(desk: Desk, ask: Order, by: str) -> Done:
    await desk.drop_order(ask.order, by)
    return Done(done=True)


async def licences(desk: Desk, ask: Licences, by: str) -> views.Licences:
    found = await desk.licences(ask.since)
    if found is None:
        raise NotFound("there is no snapshot of the licences yet")
    return views.Licences.of(found)


GET, POST, DELETE = "GET", "POST", "DELETE"
OPERATIONS = (
    Operation(GET, "/v1/status", "How things stand", Nothing, views.Status, status),
    Operation(GET, "/v1/links", "The links, by CRM id", Links, list[views.Link], list_links),
    Operation(POST, "/v1/links", "Link two customers", Pair, Done, add_link),
    Operation(DELETE, "/v1/links/{crm_id}", "Take a link apart", Link, views.Link, remove_link),
    Operation(POST, "/v1/import", "Links from a file, shown or made", LinkFile, Imported, import_links),
    Operation(GET, "/v1/review", "Who waits to be told whom it is", Page, list[views.Case], list_review),
    Operation(POST, "/v1/review/accept", "These two are one, as suggested", Pair, Done, accept),
    Operation(POST, "/v1/review/reject", "These two are not one", Pair, Done, reject),
    Operation(GET, "/v1/customers", "Customers of either side, by name", Find, list[views.Found], find),
    Operation(GET, "/v1/customers/{customer}", "One customer's story", Story, views.Explanation, explain),
    Operation(POST, "/v1/customers/{customer}/erase", "Erase what is kept of its past", Customer, Erased, erase),
    Operation(GET, "/v1/conflicts", "Values that lost", Conflicts, list[views.Conflict], list_conflicts),
    Operation(POST, "/v1/conflicts/{conflict}/undo", "Put a value back that lost", Conflict, views.Intent, undo),
    Operation(GET, "/v1/plan", "What would be written now", Planned, views.Plan, plan),
    Operation(POST, "/v1/plan/approve", "Let exactly this plan go", Approve, Approved, approve),
    Operation(POST, "/v1/pause", "Stop all writes", Nothing, Done, pause),
    Operation(POST, "/v1/resume", "Let writes go on", Nothing, Done, resume),
    Operation(POST, "/v1/token", "Give ION's new refresh token", NewToken, Done, paste_token),
    Operation(GET, "/v1/quarantine", "Who is set aside", Holds, list[views.Hold], list_quarantine),
    Operation(GET, "/v1/quarantine/{customer}", "Why one is set aside", Customer, views.SetAside, set_aside),
    Operation(POST, "/v1/quarantine/{customer}/release", "Let it try again", Customer, Done, release),
    Operation(GET, "/v1/dead-letters", "Events set aside", Letters, list[views.DeadLetter], list_dead_letters),
    Operation(GET, "/v1/dead-letters/{letter}", "One of them, as it came", Letter, views.DeadLetter, dead_letter),
    Operation(POST, "/v1/dead-letters/{letter}/redrive", "Try it again", Letter, Redriven, redrive),
    Operation(POST, "/v1/redrive", "Try all again", Nothing, dict[int, str | None], redrive_all),
    Operation(GET, "/v1/licences", "Seats: the newest snapshot, and what moved", Licences, views.Licences, licences),
    Operation(GET, "/v1/orders", "Orders of the CRM", Orders, list[views.Order], list_orders),
    Operation(POST, "/v1/orders/{order}/release", "Let an order go, or try again", Release, Done, release_order),
    Operation(POST, "/v1/orders/{order}/drop", "Say no to an order", Order, Done, drop_order),
    Operation(GET, "/v1/steered", "What people did with all", Steps, list[views.Step], list_steps),
    Operation(GET, "/v1/log/check", "Is the log as it was written", Nothing, Checked, check_log),
    Operation(GET, "/v1/divergences", "Who is not proven equal", Nothing, list[views.Divergence], list_divergences),
)
