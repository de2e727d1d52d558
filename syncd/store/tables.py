"""The tables. Instants are milliseconds since 1970 UTC; JSON is text; sealed columns say so.

Changes come as migrations in ``migrations/versions``; a test compares those with this file.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    false,
)
from sqlmodel import Field, SQLModel

SQLModel.metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def big(**options: object) -> Column[int]:
    return Column(BigInteger, nullable=bool(options.pop("nullable", False)), **options)  # type: ignore[arg-type]


def serial() -> Column[int]:
    """A key that counts up: 64 bits on PostgreSQL, SQLite's own row id there."""
    return Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def text(**options: object) -> Column[str]:
    return Column(Text, nullable=bool(options.pop("nullable", False)), **options)  # type: ignore[arg-type]


class RecordRow(SQLModel, table=True):
    """What one side was last seen to hold of one customer."""

    __tablename__ = "records"
    __table_args__ = (
        Index(None, "side", "email_key"),
        Index(None, "side", "company_key"),
        Index(None, "noted_ion_id"),
        Index(None, "created"),
    )
    side: str = Field(primary_key=True)
    customer_id: str = Field(primary_key=True)
    registers: str = Field(sa_column=text())
    written_until: int = Field(sa_column=big())
    modified: int | None = Field(default=None, sa_column=big(nullable=True))
    own_modified: int | None = Field(default=None, sa_column=big(nullable=True))
    missing_sweeps: int = 0
    created: int | None = Field(default=None, sa_column=big(nullable=True))
    row_version: int = 0
    email_key: str | None = None
    company_key: str | None = None
    noted_ion_id: str | None = None


class LinkRow(SQLModel, table=True):
    """The pair CRM id and ION id, one to one by constraint, with the base."""

    __tablename__ = "links"
    __table_args__ = (UniqueConstraint("ion_id"), Index(None, "state"))
    crm_id: str = Field(primary_key=True)
    ion_id: str
    state: str
    how: str
    since: int = Field(sa_column=big())
    base: str = Field(sa_column=text())
    spellings: str = Field(sa_column=text())
    written_at: int = Field(sa_column=big())
    frozen: str = Field(default="[]", sa_column=text(server_default="[]"))
    thawed_at: int = Field(default=0, sa_column=big(server_default="0"))


class IntentRow(SQLModel, table=True):
    """A change written down before its call."""

    __tablename__ = "intents"
    __table_args__ = (Index(None, "subject"), Index(None, "state", "side"), Index(None, "deliver_at"))
    id: str = Field(primary_key=True)
    subject: str
    side: str
    kind: str
    state: str
    at: int = Field(sa_column=big())
    changed_at: int = Field(sa_column=big())
    attempts: int = 0
    crm_id: str | None = None
    ion_id: str | None = None
    set_values: str = Field(sa_column=text())
    expect_values: str = Field(sa_column=text())
    why: str = Field(sa_column=text())
    answer: str | None = Field(default=None, sa_column=text(nullable=True))
    answered: str | None = Field(default=None, sa_column=text(nullable=True))
    deliver_at: int | None = Field(default=None, sa_column=big(nullable=True))
    trace: str | None = None


class ChangeRow(SQLModel, table=True):
    """A change decided and not yet made, and, for an hour, what was made."""

    __tablename__ = "changes"
    __table_args__ = (Index(None, "subject"), Index(None, "state", "at"))
    id: str = Field(primary_key=True)
    subject: str
    side: str
    kind: str
    state: str
    by: str = ""
    at: int = Field(sa_column=big())
    crm_id: str | None = None
    ion_id: str | None = None
    context: str = ""
    body: str = Field(sa_column=text())
    creates: int = 0
    updates: int = 0
    cleared_fields: int = 0
    link_changes: int = 0


class GuardRow(SQLModel, table=True):
    """What the guard remembers, one row: held, paused, the mapping in force."""

    __tablename__ = "guard"
    id: int = Field(primary_key=True)
    held_since: int | None = Field(default=None, sa_column=big(nullable=True))
    reason: str = Field(sa_column=text())
    paused_since: int | None = Field(default=None, sa_column=big(nullable=True))
    mapping: str = ""
    mapping_asked: str = ""


class ConflictRow(SQLModel, table=True):
    """A value that lost. ``winning`` and ``losing`` are sealed."""

    __tablename__ = "conflicts"
    __table_args__ = (Index(None, "crm_id"), Index(None, "at"))
    id: str = Field(primary_key=True)
    crm_id: str
    ion_id: str
    field: str
    rule: str
    winner: str
    winning: str = Field(sa_column=text())
    losing: str = Field(sa_column=text())
    crm_earliest: int | None = Field(default=None, sa_column=big(nullable=True))
    crm_latest: int | None = Field(default=None, sa_column=big(nullable=True))
    ion_earliest: int | None = Field(default=None, sa_column=big(nullable=True))
    ion_latest: int | None = Field(default=None, sa_column=big(nullable=True))
    intent_id: str
    at: int = Field(sa_column=big())


class DecisionRow(SQLModel, table=True):
    """The append-only log of decisions. ``detail`` is sealed, and blank once it was erased.

    ``digest`` is the keyed fingerprint of the detail, ``mark`` that of the whole entry with the digest
    in the detail's place: so what is left of an erased entry can still be checked.
    """

    __tablename__ = "decisions"
    __table_args__ = (Index(None, "subject"), Index(None, "crm_id"), Index(None, "ion_id"))
    id: int | None = Field(default=None, sa_column=serial())
    at: int = Field(sa_column=big())
    subject: str
    crm_id: str | None = None
    ion_id: str | None = None
    what: str
    intent_id: str | None = None
    detail: str = Field(sa_column=text())
    digest: str = Field(default="", sa_column=text(server_default=""))
    mark: str = Field(default="", sa_column=text(server_default=""))


class DivergenceRow(SQLModel, table=True):
    """Linked customers who were not proven equal when all were last compared. No values: who, where, since when."""

    __tablename__ = "divergences"
    crm_id: str = Field(primary_key=True)
    ion_id: str
    fields: str = Field(sa_column=text())
    standing: str
    since: int = Field(sa_column=big())
    equal_until: int = Field(sa_column=big())


class QueueRow(SQLModel, table=True):
    """Which customers to look at. Nothing else is in it: what to do is derived from the records."""

    __tablename__ = "queue"
    __table_args__ = (Index(None, "stage", "due"), Index(None, "since"))
    subject: str = Field(primary_key=True)
    stage: str
    due: int = Field(sa_column=big())
    since: int = Field(sa_column=big())
    attempts: int = 0
    generation: int = Field(sa_column=big())
    fence: int = Field(sa_column=big())
    leased_until: int = Field(sa_column=big())
    trace: str | None = None


class HoldRow(SQLModel, table=True):
    """Customers that wait for a person or for their own record to change."""

    __tablename__ = "holds"
    __table_args__ = (Index(None, "kind"),)
    subject: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    reason: str = Field(sa_column=text())
    since: int = Field(sa_column=big())
    fields: str = Field(sa_column=text())


class CandidateRow(SQLModel, table=True):
    """Possible links of an unlinked customer, with score and tier."""

    __tablename__ = "candidates"
    subject: str = Field(primary_key=True)
    crm_id: str = Field(primary_key=True)
    ion_id: str = Field(primary_key=True)
    tier: str
    score: float
    evidence: str = Field(default="[]", sa_column=text(server_default="[]"))


class BlockRow(SQLModel, table=True):
    """Where customers without a link are looked for by likeness: who shares a block is compared."""

    __tablename__ = "blocks"
    __table_args__ = (Index(None, "side", "customer_id"),)
    side: str = Field(primary_key=True)
    block: str = Field(primary_key=True)
    customer_id: str = Field(primary_key=True)


class RejectionRow(SQLModel, table=True):
    """Two customers of whom a person said that they are not one."""

    __tablename__ = "rejections"
    __table_args__ = (Index(None, "ion_id"),)
    crm_id: str = Field(primary_key=True)
    ion_id: str = Field(primary_key=True)


class ReadingRow(SQLModel, table=True):
    """What a page of a listing showed of a customer that waits for a call, while it is fresh. ``body`` is sealed."""

    __tablename__ = "readings"
    __table_args__ = (Index(None, "asked"),)
    subject: str = Field(primary_key=True)
    ion_id: str
    asked: int = Field(sa_column=big())
    body: str = Field(sa_column=text())


class OffsetRow(SQLModel, table=True):
    """The next offset to read, stored with the effect of all before it."""

    __tablename__ = "offsets"
    topic: str = Field(primary_key=True)
    partition: int = Field(primary_key=True)
    next_offset: int = Field(sa_column=big())
    end_offset: int = Field(default=0, sa_column=big(server_default="0"))


class MessageRow(SQLModel, table=True):
    """Kafka records on their way out, until the broker has them."""

    __tablename__ = "messages"
    id: int | None = Field(default=None, sa_column=serial())
    topic: str
    key: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    value: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    headers: str = Field(sa_column=text())


class DeadLetterRow(SQLModel, table=True):
    """Events set aside. ``body`` (key, value, headers) is sealed."""

    __tablename__ = "dead_letters"
    __table_args__ = (UniqueConstraint("topic", "partition", "offset"),)
    id: int | None = Field(default=None, sa_column=serial())
    topic: str
    partition: int
    offset: int = Field(sa_column=big())
    reason: str
    detail: str = Field(sa_column=text())
    at: int = Field(sa_column=big())
    body: str = Field(sa_column=text())


class SweepRow(SQLModel, table=True):
    """One complete listing of ION, or the attempt."""

    __tablename__ = "sweeps"
    started: int = Field(sa_column=big(primary_key=True, autoincrement=False))
    ended: int = Field(sa_column=big())
    pages: int
    customers: int
    changed: int
    outcome: str
    is_early: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))


class TokensRow(SQLModel, table=True):
    """The OAuth tokens, one row. ``access`` and ``refresh`` are sealed."""

    __tablename__ = "tokens"
    id: int = Field(primary_key=True)
    access: str | None = Field(default=None, sa_column=text(nullable=True))
    refresh: str | None = Field(default=None, sa_column=text(nullable=True))
    obtained: int = Field(sa_column=big())
    access_expires: int = Field(sa_column=big())
    refresh_expires: int = Field(sa_column=big())
    seeded_by: str = ""
    refreshing_since: int | None = Field(default=None, sa_column=big(nullable=True))
    refused: str | None = Field(default=None, sa_column=text(nullable=True))


class LedgerRow(SQLModel, table=True):
    """The budget of calls, one row: all replicas take their slots from it."""

    __tablename__ = "ledger"
    id: int = Field(primary_key=True)
    body: str = Field(sa_column=text())


class LeaseRow(SQLModel, table=True):
    """Rights that one replica at a time has: to sweep, to refresh the token."""

    __tablename__ = "leases"
    name: str = Field(primary_key=True)
    owner: str
    until: int = Field(sa_column=big())
    progress: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))


class ProductRow(SQLModel, table=True):
    """One product of a distributor's catalogue, as it was last listed."""

    __tablename__ = "products"
    distributor: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    body: str = Field(sa_column=text())
    known_since: int = Field(sa_column=big())
    changed_at: int = Field(sa_column=big())


class PriceRow(SQLModel, table=True):
    """From then on one offer of a product costs so much; a decimal number as text, ``NULL``: no price is named."""

    __tablename__ = "prices"
    distributor: str = Field(primary_key=True)
    product: str = Field(primary_key=True)
    sku: str = Field(primary_key=True)
    plan: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    since: int = Field(sa_column=big(primary_key=True, autoincrement=False))
    price: str | None = None
    currency: str | None = None


class OrderRow(SQLModel, table=True):
    """An order of the CRM's. ``body`` is sealed: until it is placed it may hold what a vendor wants to know."""

    __tablename__ = "orders"
    id: str = Field(primary_key=True)
    customer: str
    state: str = Field(index=True)
    at: int = Field(sa_column=big())
    changed_at: int = Field(sa_column=big())
    due: int | None = Field(default=None, sa_column=big(nullable=True, index=True))
    ion_customer: str | None = Field(default=None, index=True)
    ion_order: str | None = None
    body: str = Field(sa_column=text())


class SubscriptionRow(SQLModel, table=True):
    """One subscription of a distributor's, as it was last listed."""

    __tablename__ = "subscriptions"
    distributor: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    ion_customer: str
    body: str = Field(sa_column=text())
    known_since: int = Field(sa_column=big())
    changed_at: int = Field(sa_column=big())


class DriftRow(SQLModel, table=True):
    """How a subscription's seats moved, with the subscription as it was then."""

    __tablename__ = "licence_drift"
    distributor: str = Field(primary_key=True)
    subscription: str = Field(primary_key=True)
    at: int = Field(sa_column=big(primary_key=True, autoincrement=False, index=True))
    kind: str
    was: int
    ion_customer: str
    body: str = Field(sa_column=text())


class SnapshotRow(SQLModel, table=True):
    """One whole listing of subscriptions, rolled up."""

    __tablename__ = "snapshots"
    at: int = Field(sa_column=big(primary_key=True, autoincrement=False))
    body: str = Field(sa_column=text())


class ContractRow(SQLModel, table=True):
    """Seats under contract, as the CRM last said."""

    __tablename__ = "contracts"
    customer: str = Field(primary_key=True)
    sku: str = Field(primary_key=True)
    seats: int


class NoteRow(SQLModel, table=True):
    """Small facts worth remembering over a restart: ION's dialect, the page size it takes."""

    __tablename__ = "notes"
    name: str = Field(primary_key=True)
    text: str = Field(sa_column=text())


METADATA = SQLModel.metadata
