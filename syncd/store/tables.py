"""The tables. Instants are milliseconds since 1970 UTC; JSON is text; sealed columns say so.

Changes come as migrations in ``migrations/versions``; a test compares those with this file.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def key(name: str) -> Column[str]:
    return Column(name, String, primary_key=True)


def word(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, String, nullable=nullable, **options)


def big(name: str, *, nullable: bool = False, **options: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, **options)


def text(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=nullable, **options)


def number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False)


def serial() -> Column[int]:
    """A key that counts up: 64 bits on PostgreSQL, SQLite's own row id there."""
    number = BigInteger().with_variant(Integer, "sqlite")
    return Column("id", number, primary_key=True, autoincrement=True)


RECORDS = Table(
    "records",
    METADATA,
    key("side"),
    key("customer_id"),
    text("registers"),
    big("written_until"),
    big("modified", nullable=True),
    big("own_modified", nullable=True),
    number("missing_sweeps"),
    big("created", nullable=True),
    number("row_version"),
    word("email_key", nullable=True),
    word("company_key", nullable=True),
    word("noted_ion_id", nullable=True),
    Index(None, "side", "email_key"),
    Index(None, "side", "company_key"),
    Index(None, "noted_ion_id"),
    Index(None, "created"),
)
"""What one side was last seen to hold of one customer."""

LINKS = Table(
    "links",
    METADATA,
    key("crm_id"),
    word("ion_id"),
    word("state"),
    word("how"),
    big("since"),
    text("base"),
    text("spellings"),
    big("written_at"),
    text("frozen", server_default="[]"),
    big("thawed_at", server_default="0"),
    UniqueConstraint("ion_id"),
    Index(None, "state"),
)
"""The pair CRM id and ION id, one to one by constraint, with the base."""

INTENTS = Table(
    "intents",
    METADATA,
    key("id"),
    word("subject"),
    word("side"),
    word("kind"),
    word("state"),
    big("at"),
    big("changed_at"),
    number("attempts"),
    word("crm_id", nullable=True),
    word("ion_id", nullable=True),
    text("set_values"),
    text("expect_values"),
    text("why"),
    text("answer", nullable=True),
    text("answered", nullable=True),
    big("deliver_at", nullable=True),
    word("trace", nullable=True),
    Index(None, "subject"),
    Index(None, "state", "side"),
    Index(None, "deliver_at"),
)
"""A change written down before its call."""

CHANGES = Table(
    "changes",
    METADATA,
    key("id"),
    word("subject"),
    word("side"),
    word("kind"),
    word("state"),
    word("by"),
    big("at"),
    word("crm_id", nullable=True),
    word("ion_id", nullable=True),
    word("context"),
    text("body"),
    number("creates"),
    number("updates"),
    number("cleared_fields"),
    number("link_changes"),
    Index(None, "subject"),
    Index(None, "state", "at"),
)
"""A change decided and not yet made, and, for an hour, what was made."""

GUARD = Table(
    "guard",
    METADATA,
    Column("id", Integer, primary_key=True),
    big("held_since", nullable=True),
    text("reason"),
    big("paused_since", nullable=True),
    word("mapping"),
    word("mapping_asked"),
)
"""What the guard remembers, one row: held, paused, the mapping in force."""

CONFLICTS = Table(
    "conflicts",
    METADATA,
    key("id"),
    word("crm_id"),
    word("ion_id"),
    word("field"),
    word("rule"),
    word("winner"),
    text("winning"),
    text("losing"),
    big("crm_earliest", nullable=True),
    big("crm_latest", nullable=True),
    big("ion_earliest", nullable=True),
    big("ion_latest", nullable=True),
    word("intent_id"),
    big("at"),
    Index(None, "crm_id"),
    Index(None, "at"),
)
"""A value that lost. ``winning`` and ``losing`` are sealed."""

DECISIONS = Table(
    "decisions",
    METADATA,
    serial(),
    big("at"),
    word("subject"),
    word("crm_id", nullable=True),
    word("ion_id", nullable=True),
    word("what"),
    word("intent_id", nullable=True),
    text("detail"),
    text("digest", server_default=""),
    text("mark", server_default=""),
    Index(None, "subject"),
    Index(None, "crm_id"),
    Index(None, "ion_id"),
)
"""The append-only log of decisions. ``detail`` is sealed, and blank once it was erased.

``digest`` is the keyed fingerprint of the detail, ``mark`` that of the whole entry with the digest
in the detail's place: so what is left of an erased entry can still be checked.
"""

DIVERGENCES = Table(
    "divergences",
    METADATA,
    key("crm_id"),
    word("ion_id"),
    text("fields"),
    word("standing"),
    big("since"),
    big("equal_until"),
)
"""Linked customers who were not proven equal when all were last compared. No values: who, where, since when."""

QUEUE = Table(
    "queue",
    METADATA,
    key("subject"),
    word("stage"),
    big("due"),
    big("since"),
    number("attempts"),
    big("generation"),
    big("fence"),
    big("leased_until"),
    word("trace", nullable=True),
    big("shown", server_default="0"),
    Index(None, "stage", "due"),
    Index(None, "stage", "shown"),
    Index(None, "since"),
)
"""Which customers to look at; what to do is derived from the records. ``shown``: when the last page of a listing was
asked for that showed the customer while it waited, and 0 before."""

HOLDS = Table(
    "holds",
    METADATA,
    key("subject"),
    key("kind"),
    text("reason"),
    big("since"),
    text("fields"),
    Index(None, "kind"),
)
"""Customers that wait for a person or for their own record to change."""

CANDIDATES = Table(
    "candidates",
    METADATA,
    key("subject"),
    key("crm_id"),
    key("ion_id"),
    word("tier"),
    Column("score", Float, nullable=False),
    text("evidence", server_default="[]"),
)
"""Possible links of an unlinked customer, with score and tier."""

BLOCKS = Table(
    "blocks",
    METADATA,
    key("side"),
    key("block"),
    key("customer_id"),
    Index(None, "side", "customer_id"),
)
"""Where customers without a link are looked for by likeness: who shares a block is compared."""

REJECTIONS = Table(
    "rejections",
    METADATA,
    key("crm_id"),
    key("ion_id"),
    Index(None, "ion_id"),
)
"""Two customers of whom a person said that they are not one."""

READINGS = Table(
    "readings",
    METADATA,
    key("subject"),
    word("ion_id"),
    big("asked"),
    text("body"),
    Index(None, "asked"),
)
"""What a page of a listing showed of a customer that waits for a call, while it is fresh. ``body`` is sealed."""

OFFSETS = Table(
    "offsets",
    METADATA,
    key("topic"),
    Column("partition", Integer, primary_key=True),
    big("next_offset"),
    big("end_offset", server_default="0"),
)
"""The next offset to read, stored with the effect of all before it."""

MESSAGES = Table(
    "messages",
    METADATA,
    serial(),
    word("topic"),
    Column("key", LargeBinary, nullable=True),
    Column("value", LargeBinary, nullable=True),
    text("headers"),
)
"""Kafka records on their way out, until the broker has them."""

LETTERS = Table(
    "dead_letters",
    METADATA,
    serial(),
    word("topic"),
    number("partition"),
    big("offset"),
    word("reason"),
    text("detail"),
    big("at"),
    text("body"),
    UniqueConstraint("topic", "partition", "offset"),
)
"""Events set aside. ``body`` (key, value, headers) is sealed."""

SWEEPS = Table(
    "sweeps",
    METADATA,
    big("started", primary_key=True, autoincrement=False),
    big("ended"),
    number("pages"),
    number("customers"),
    number("changed"),
    word("outcome"),
    Column("is_early", Boolean, nullable=False, server_default=false()),
)
"""One complete listing of ION, or the attempt."""

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", Integer, primary_key=True),
    text("access", nullable=True),
    text("refresh", nullable=True),
    big("obtained"),
    big("access_expires"),
    big("refresh_expires"),
    word("seeded_by"),
    big("refreshing_since", nullable=True),
    text("refused", nullable=True),
)
"""The OAuth tokens, one row. ``access`` and ``refresh`` are sealed."""

LEDGER = Table(
    "ledger",
    METADATA,
    Column("id", Integer, primary_key=True),
    text("body"),
)
"""The budget of calls, one row: all replicas take their slots from it."""

LEASES = Table(
    "leases",
    METADATA,
    key("name"),
    word("owner"),
    big("until"),
    Column("progress", BigInteger, nullable=False, server_default="0"),
)
"""Rights that one replica at a time has: to sweep, to refresh the token."""

PRODUCTS = Table(
    "products",
    METADATA,
    key("distributor"),
    key("id"),
    text("body"),
    big("known_since"),
    big("changed_at"),
)
"""One product of a distributor's catalogue, as it was last listed."""

PRICES = Table(
    "prices",
    METADATA,
    key("distributor"),
    key("product"),
    key("sku"),
    key("plan"),
    Column("phase", Integer, primary_key=True),
    big("since", primary_key=True, autoincrement=False),
    word("price", nullable=True),
    word("currency", nullable=True),
)
"""From then on one offer of a product costs so much; a decimal number as text, ``NULL``: no price is named."""

ORDERS = Table(
    "orders",
    METADATA,
    key("id"),
    word("customer"),
    word("state", index=True),
    big("at"),
    big("changed_at"),
    big("due", nullable=True, index=True),
    word("ion_customer", nullable=True, index=True),
    word("ion_order", nullable=True),
    text("body"),
)
"""An order of the CRM's. ``body`` is sealed: until it is placed it may hold what a vendor wants to know."""

SUBSCRIPTIONS = Table(
    "subscriptions",
    METADATA,
    key("distributor"),
    key("id"),
    word("ion_customer"),
    text("body"),
    big("known_since"),
    big("changed_at"),
)
"""One subscription of a distributor's, as it was last listed."""

DRIFT = Table(
    "licence_drift",
    METADATA,
    key("distributor"),
    key("subscription"),
    big("at", primary_key=True, autoincrement=False, index=True),
    word("kind"),
    number("was"),
    word("ion_customer"),
    text("body"),
)
"""How a subscription's seats moved, with the subscription as it was then."""

SNAPSHOTS = Table(
    "snapshots",
    METADATA,
    big("at", primary_key=True, autoincrement=False),
    text("body"),
)
"""One whole listing of subscriptions, rolled up."""

CONTRACTS = Table(
    "contracts",
    METADATA,
    key("customer"),
    key("sku"),
    number("seats"),
)
"""Seats under contract, as the CRM last said."""

NOTES = Table(
    "notes",
    METADATA,
    key("name"),
    text("text"),
)
"""Small facts worth remembering over a restart: ION's dialect, the page size it takes."""
