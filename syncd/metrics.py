"""Every metric, named in one place. Labels never hold customer data."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest

from syncd import __version__
from syncd.core.budget import Lane
from syncd.core.values import Field, Side

LAG_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3_600, 14_400, 86_400)
CALL_BUCKETS = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry a process; the flows and the ION client report to it through their ports."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="syncd", registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"syncd_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"syncd_{name}", text, labels, registry=registry)

        self.events = counter("events", "CRM events read", "form", "outcome")
        self.events_missed = counter("events_missed", "Events that retention took before they were read")
        self.dead_letters = counter("dead_letters", "Events set aside", "reason")
        self.ion_calls = counter("ion_calls", "Calls to ION", "lane", "operation", "status")
        self.ion_call_seconds = Histogram(
            "syncd_ion_call_seconds", "How long calls to ION took", buckets=CALL_BUCKETS, registry=registry
        )
        self.ion_budget_calls = gauge("ion_budget_calls", "Slots of the budget of calls", "state")
        self.ion_throttled = counter("ion_throttled", "Answers 429 from ION")
        self.sync_lag_seconds = Histogram(
            "syncd_sync_lag_seconds", "From edit to confirmed", ["direction"], buckets=LAG_BUCKETS, registry=registry
        )
        self.pending_changes = gauge("pending_changes", "Customers with a change under way", "direction")
        self.oldest_pending_seconds = gauge("oldest_pending_seconds", "Age of the oldest of them", "direction")
        self.links = gauge("links", "Links by state", "state")
        self.conflicts = counter("conflicts", "Values that lost to the other side", "field", "winner", "rule")
        self.echoes = counter("echoes", "Our own writes seen again", "side")
        self.unknown_outcomes = gauge("unknown_outcomes", "Writes whose answer was lost")
        self.held_changes = gauge("held_changes", "Changes that the guard holds")
        self.up = gauge("up", "1 while this part can be used", "part")
        self.guard_closed = gauge("guard_closed", "1 while the guard holds, or writes are paused", "why")
        self.frozen_customers = gauge("frozen_customers", "Customers with fields that were written too often")
        self.quarantined_customers = gauge("quarantined_customers", "Customers that a side refuses")
        self.incomplete_customers = gauge("incomplete_customers", "Customers that lack what ION requires")
        self.sweep_seconds = Histogram(
            "syncd_sweep_seconds", "How long sweeps took", buckets=LAG_BUCKETS, registry=registry
        )
        self.sweep_age_seconds = gauge("sweep_age_seconds", "Since the last complete sweep began")
        self.sweeps = counter("sweeps", "Sweeps by outcome", "outcome")
        self.divergent_customers = gauge(
            "divergent_customers", "Linked customers that differ, with nothing under way"
        )
        self.oldest_unverified_seconds = gauge(
            "oldest_unverified_seconds", "How long one linked customer or another has not been proven equal"
        )
        self.licence_seats = gauge("licence_seats", "Active seats in the newest snapshot", "vendor")
        self.licence_drift = gauge("licence_drift_seats", "Seats that moved in the newest snapshot", "direction")
        self.snapshot_age_seconds = gauge("snapshot_age_seconds", "Since the newest snapshot of licences began")
        self.orders = gauge("orders", "Orders from the CRM by state", "state")
        self.token_expires_seconds = gauge("token_expires_seconds", "Life left in the refresh token")
        self.leader = gauge("leader", "1 where this replica sweeps")
        self.kafka_lag_records = gauge("kafka_lag_records", "Records not yet read", "topic", "partition")
        for unmeasured in (
            self.divergent_customers,
            self.frozen_customers,
            self.held_changes,
            self.incomplete_customers,
            self.oldest_unverified_seconds,
            self.quarantined_customers,
            self.snapshot_age_seconds,
            self.sweep_age_seconds,
            self.token_expires_seconds,
            self.unknown_outcomes,
        ):
            unmeasured.set(float("nan"))  # what nobody has measured is not 0
        build = Info("syncd_build", "The running version", registry=registry)
        build.info({"version": __version__})
        for side in Side:  # so that a dashboard shows 0, not nothing
            self.echoes.labels(side.value)

    def page(self) -> bytes:
        """The metrics as OpenMetrics text."""
        page: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return page

    # -- what the flows report

    def event(self, form: str, outcome: str, count: int = 1) -> None:
        self.events.labels(form, outcome).inc(count)

    def dead_letter(self, reason: str) -> None:
        self.dead_letters.labels(reason).inc()

    def missed(self, events: int) -> None:
        self.events_missed.inc(events)

    def conflict(self, field: Field, winner: str, rule: str) -> None:
        self.conflicts.labels(field.value, winner, rule).inc()

    def echo(self, side: Side) -> None:
        self.echoes.labels(side.value).inc()

    def sweep(self, outcome: str, seconds: float) -> None:
        self.sweeps.labels(outcome).inc()
        self.sweep_seconds.observe(seconds)

    def confirmed(self, side: Side, seconds: float) -> None:
        self.sync_lag_seconds.labels(f"to-{side.value}").observe(seconds)

    def called(self, lane: Lane, operation: str, status: str, seconds: float) -> None:
        self.ion_calls.labels(lane.value, operation, status).inc()
        self.ion_call_seconds.observe(seconds)
        if status == "429":
            self.ion_throttled.inc()

    def kafka_lag(self, topic: str, lags: Mapping[int, int]) -> None:
        self.kafka_lag_records.remove_by_labels(
            {"topic": topic}
        )  # what another replica reads by now is told by that one
        for partition, lag in lags.items():
            self.kafka_lag_records.labels(topic, str(partition)).set(lag)
