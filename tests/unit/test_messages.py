"""Contract 5: what goes over Kafka fits its schema; logs and metrics hold nothing they must not."""

from __future__ import annotations

import json
import logging
from decimal import Decimal

import jsonschema
import pytest
import structlog

from syncd import logs
from syncd.core.budget import Lane, new_ledger, take
from syncd.core.catalogue import CatalogueChange, Offer, OfferKey, Product
from syncd.core.intent import Intent, IntentState, Kind
from syncd.core.link import How, Link, LinkState
from syncd.core.values import Address, CrmId, Field, IonId, Millis, Side, Subject
from syncd.core.work import DeadLetter
from syncd.crm.catalogue import product_message
from syncd.crm.commands import command_message, dead_letter_message, rfc3339
from syncd.crm.schemas import all_schemas, asyncapi
from syncd.daemon import set_gauges
from syncd.engine.links import LinkBook
from syncd.engine.ports import Command
from syncd.engine.status import survey
from syncd.mapping import load_mapping
from syncd.metrics import Metrics
from syncd.store.memory import MemoryStore
from syncd.store.seal import Seal
from tests.contracts.test_store import KEY

SCHEMAS = all_schemas()
VALUES = {Field.COMPANY: "Acme", Field.PHONE: None, Field.ADDRESS: Address("1 Main", "", "Tampa", "FL", "33602")}


def check(name: str, document: object) -> None:
    jsonschema.validate(document, SCHEMAS[name], jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_a_product_fits_its_schema_and_no_price_is_rounded() -> None:
    offers = (
        Offer(OfferKey("S1", "P1M", 0), "Suite", Decimal("1E+2"), "USD"),
        Offer(OfferKey("S1", "P1Y", 1), "Suite", None, None),
    )
    change = CatalogueChange(Product("901", None, "Microsoft", None, offers), True, ())
    message = product_message("syncd.products", change, Millis(1_767_225_600_123))
    product = json.loads(message.value or b"")
    check("product", product)
    assert message.key == b"synnex/901"
    assert [offer["price"] for offer in product["offers"]] == ["100", None]


@pytest.mark.parametrize("kind", Kind)
def test_a_command_fits_its_schema(kind: Kind) -> None:
    crm_id = "C1" if kind is Kind.UPDATE else None
    intent = Intent(
        "abc",
        Subject("crm:C1"),
        Side.CRM,
        kind,
        VALUES,
        VALUES,
        IntentState.SENT,
        Millis(1),
        crm_id,
        "7",
        {"company": {}},
    )
    message = command_message("t", Command(intent, Millis(1_767_225_600_123)), load_mapping(None))
    event = json.loads(message.value or b"")
    check("command", event)
    assert event["time"] == "2026-01-01T00:00:00.123Z"
    assert message.key == (b"C1" if crm_id else b"abc")


def test_a_link_record_fits_its_schema_and_holds_no_value() -> None:
    link = Link(CrmId("C1"), IonId("7"), LinkState.LINKED, How.CRM_NOTE, Millis(5), VALUES)
    message = LinkBook("links", Seal([KEY]).fingerprint).message(link)
    check("link", json.loads(message.value or b""))
    assert b"Acme" not in (message.value or b"")


@pytest.mark.parametrize(("key", "value"), [(b"k", b"{"), (None, None), (b"\xff", b"\xfe")])
def test_a_dead_letter_fits_its_schema(key: bytes | None, value: bytes | None) -> None:
    letter = DeadLetter("t", 0, 1, "bad", "why", Millis(0), key, value, (("h", b"\xff"),))
    check("dead-letter", json.loads(dead_letter_message("d", letter).value or b""))


def test_the_topics_document_names_every_message() -> None:
    assert set(asyncapi("1")["components"]["messages"]) == set(SCHEMAS)


def test_times_are_rfc3339() -> None:
    assert rfc3339(Millis(0)) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_log_line_shows_a_secret(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(form, "debug")
    try:
        log = structlog.get_logger()
        log.info("called", access_token="s3cret", headers={"Authorization": "Bearer s3cret"}, note="Bearer s3cret")
        log.info("form", body="refresh_token=s3cret&x=1", nested={"password": "s3cret"})
        logging.getLogger("somebody.else").warning('failed: {"refresh_token": "s3cret"}')
        try:
            raise ValueError("refresh_token=s3cret")
        except ValueError:
            log.exception("failed")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = []
    said = capsys.readouterr().err
    assert "s3cret" not in said
    assert said.count("[redacted]") >= 6


def test_the_metrics_page_has_the_contracts_names() -> None:
    metrics = Metrics()
    metrics.event("plain", "stored")
    metrics.dead_letter("undecodable")
    metrics.conflict(Field.COMPANY, "crm", "tie")
    metrics.echo(Side.CRM)
    metrics.sweep("complete", 1.0)
    metrics.confirmed(Side.ION, 2.0)
    metrics.called(Lane.WRITE, "update", "429", 0.1)
    metrics.kafka_lag("t", {0: 5})
    page = metrics.page().decode()
    for line in (
        'syncd_events_total{form="plain",outcome="stored"} 1.0',
        'syncd_dead_letters_total{reason="undecodable"} 1.0',
        'syncd_conflicts_total{field="company",rule="tie",winner="crm"} 1.0',
        'syncd_echoes_total{side="crm"} 1.0',
        'syncd_sweeps_total{outcome="complete"} 1.0',
        'syncd_ion_calls_total{lane="write",operation="update",status="429"} 1.0',
        "syncd_ion_throttled_total 1.0",
        'syncd_kafka_lag_records{partition="0",topic="t"} 5.0',
        'syncd_build_info{version="0.1.0"} 1.0',
    ):
        assert line in page
    names = "ion_budget_calls pending_changes oldest_pending_seconds links unknown_outcomes held_changes"
    names += " quarantined_customers incomplete_customers sweep_age_seconds divergent_customers"
    names += " oldest_unverified_seconds token_expires_seconds leader sync_lag_seconds sweep_seconds ion_call_seconds"
    for name in names.split():
        assert f"# TYPE syncd_{name} " in page


async def test_spare_slots_are_not_free_or_nobody_would_be_told_of_a_budget_used_up() -> None:
    store, metrics = MemoryStore(), Metrics()
    async with store.begin() as unit:
        ledger = take(new_ledger(30, 1_000), Lane.SWEEP, 27, await unit.time()).ledger
        await unit.save_ledger(ledger)
    set_gauges(metrics, await survey(store, "t"), ledger)
    page = metrics.page().decode()
    assert 'syncd_ion_budget_calls{state="used"} 27.0' in page
    assert 'syncd_ion_budget_calls{state="free"} 1.0' in page


def test_a_seal_rotates_and_a_wrong_key_says_so() -> None:
    from cryptography.fernet import Fernet

    from syncd.core.errors import BadConfiguration

    new = Fernet.generate_key().decode()
    sealed = Seal([KEY]).seal("text")
    assert Seal([new, KEY]).open(sealed) == "text"
    with pytest.raises(BadConfiguration, match="SYNCD_SECRET_KEY"):
        Seal([new]).open(sealed)
    with pytest.raises(BadConfiguration, match="new-key"):
        Seal(["nonsense"])
