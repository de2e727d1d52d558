"""The dashboards for Grafana, as tables. ``python -m tools.generate`` writes them to ``deploy/observability``.

A query names its metric once, with ``SCOPE`` where the namespace and the job that are looked at are put. What is the
same for all replicas, since it is read from the store, is shown by ``max``; what each counts by itself is added up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
SCOPE = 'namespace=~"$namespace",job=~"$job"'
GREEN, AMBER, RED = "green", "orange", "red"
RATE = "{SCOPE}[$__rate_interval]"
PER_MINUTE = "[$__rate_interval]))*60"
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    unit: str
    queries: Mapping[str, str]
    """Legend to PromQL."""
    steps: tuple[tuple[float, str], ...] = ()
    """From which value on which colour; green below the first."""
    below: str = GREEN
    says: str = ""
    is_number: bool = False
    """One number of now, not a line over time."""


def number(title: str, unit: str, query: str, *steps: tuple[float, str], below: str = GREEN, says: str = "") -> Panel:
    return Panel(title, unit, {"": query}, steps, below, says, is_number=True)


def lines(title: str, unit: str, queries: Mapping[str, str], *steps: tuple[float, str], says: str = "") -> Panel:
    return Panel(title, unit, queries, steps, says=says)


def quantiles(metric: str, by: str = "") -> dict[str, str]:
    groups, legend = (f"le,{by}", f"{{{{{by}}}}} ") if by else ("le", "")
    return {
        f"{legend}p{share * 100:.0f}": f"histogram_quantile({share},"
        f"sum by ({groups}) (rate({metric}_bucket{{SCOPE}}[$__rate_interval])))"
        for share in (0.5, 0.99)
    }


LAG = lines("From edit to confirmed", "s", quantiles("syncd_sync_lag_seconds", "direction"), (900, AMBER))
PENDING = lines("On their way", "short", {"{{direction}}": "max by (direction) (syncd_pending_changes{SCOPE})"})
LANES = lines(
    "Calls a minute, by lane",
    "short",
    {"{{lane}}": "sum by (lane) (rate(syncd_ion_calls_total{SCOPE}" + PER_MINUTE},
    says="All replicas together. The budget is kept for any sliding minute; this is a mean.",
)
BUDGET = lines("The budget's slots", "short", {"{{state}}": "max by (state) (syncd_ion_budget_calls{SCOPE})"})
CONFLICTS = lines(
    "Values that lost, an hour", "short", {"{{rule}}": "sum by (rule) (increase(syncd_conflicts_total{SCOPE}[1h]))"}
)
SET_ASIDE = lines(
    "Who waits",
    "short",
    {
        "quarantine": "max(syncd_quarantined_customers{SCOPE})",
        "incomplete": "max(syncd_incomplete_customers{SCOPE})",
        "frozen": "max(syncd_frozen_customers{SCOPE})",
    },
)

ORDERS = lines("Orders of the CRM", "short", {"{{state}}": "max by (state) (syncd_orders{SCOPE})"})

SEATS = lines("Active seats, by vendor", "short", {"{{vendor}}": "max by (vendor) (syncd_licence_seats{SCOPE})"})

SEATS_MOVED = lines(
    "Seats that moved in the last snapshot",
    "short",
    {"{{direction}}": "max by (direction) (syncd_licence_drift_seats{SCOPE})"},
)
SNAPSHOT = lines(
    "Age of the snapshot of licences", "s", {"age": "min(syncd_snapshot_age_seconds{SCOPE})"}, (14 * DAY, AMBER)
)

BOARDS: Mapping[str, tuple[str, Mapping[str, tuple[Panel, ...]]]] = {
    "overview": (
        "syncd: overview",
        {
            "Are both sides equal?": (
                number("Linked", "short", 'max(syncd_links{SCOPE,state="linked"})'),
                number("Differ", "short", "max(syncd_divergent_customers{SCOPE})", (1, RED)),
                number(
                    "Proven equal", "s", "max(syncd_oldest_unverified_seconds{SCOPE})", (7_200, AMBER), (DAY, RED)
                ),
                number("Held changes", "short", "max(syncd_held_changes{SCOPE})", (1, RED)),
                number("Quarantined", "short", "max(syncd_quarantined_customers{SCOPE})", (1, AMBER), (10, RED)),
                number("Answers lost", "short", "max(syncd_unknown_outcomes{SCOPE})", (1, AMBER)),
                number("Token lasts", "s", "min(syncd_token_expires_seconds{SCOPE})", (7 * DAY, GREEN), below=RED),
                number("Last whole sweep", "s", "min(syncd_sweep_age_seconds{SCOPE})", (600, AMBER), (1_800, RED)),
            ),
            "Each way": (
                LAG,
                PENDING,
                lines(
                    "The oldest of them",
                    "s",
                    {"{{direction}}": "max by (direction) (syncd_oldest_pending_seconds{SCOPE})"},
                    (600, AMBER),
                    (1_800, RED),
                ),
            ),
            "What it costs and what it meets": (LANES, CONFLICTS, SET_ASIDE),
            "Beside customer sync": (ORDERS, SEATS, SEATS_MOVED, SNAPSHOT),
            "Steering": (
                lines(
                    "The guard is closed", "short", {"{{why}}": "max by (why) (syncd_guard_closed{SCOPE})"}, (1, RED)
                ),
                lines("Differ", "short", {"customers": "max(syncd_divergent_customers{SCOPE})"}, (1, RED)),
                lines("Links", "short", {"{{state}}": "max by (state) (syncd_links{SCOPE})"}),
            ),
        },
    ),
    "ion-calls": (
        "syncd: calls to ION",
        {
            "The budget": (
                LANES,
                BUDGET,
                lines(
                    "Answers 429",
                    "short",
                    {"an hour": "sum(increase(syncd_ion_throttled_total{SCOPE}[1h]))"},
                    (1, RED),
                    says="The budget is kept, so somebody else uses the credential.",
                ),
            ),
            "Calls": (
                lines(
                    "Calls a minute, by operation",
                    "short",
                    {"{{operation}}": "sum by (operation) (rate(syncd_ion_calls_total{SCOPE}" + PER_MINUTE},
                ),
                lines(
                    "Calls a minute, by answer",
                    "short",
                    {"{{status}}": "sum by (status) (rate(syncd_ion_calls_total{SCOPE}" + PER_MINUTE},
                ),
                lines("How long they take", "s", quantiles("syncd_ion_call_seconds"), (10, AMBER)),
            ),
            "Sweeps and what came of writes": (
                lines(
                    "Sweeps an hour",
                    "short",
                    {"{{outcome}}": "sum by (outcome) (increase(syncd_sweeps_total{SCOPE}[1h]))"},
                ),
                lines("How long sweeps take", "s", quantiles("syncd_sweep_seconds")),
                lines(
                    "Writes whose answer was lost",
                    "short",
                    {"open": "max(syncd_unknown_outcomes{SCOPE})"},
                    (1, AMBER),
                ),
            ),
        },
    ),
    "ingest": (
        "syncd: events from the CRM",
        {
            "Events": (
                lines(
                    "Events a second",
                    "short",
                    {"{{form}} {{outcome}}": f"sum by (form, outcome) (rate(syncd_events_total{RATE}))"},
                ),
                lines(
                    "Not read yet",
                    "short",
                    {
                        "{{topic}}/{{partition}}": "max by (topic, partition) (syncd_kafka_lag_records{SCOPE})",
                    },
                    (10_000, AMBER),
                ),
                lines(
                    "Set aside, an hour",
                    "short",
                    {"{{reason}}": "sum by (reason) (increase(syncd_dead_letters_total{SCOPE}[1h]))"},
                    (1, AMBER),
                ),
            ),
            "What they meet": (
                lines(
                    "Our own writes seen again, a minute",
                    "short",
                    {"{{side}}": "sum by (side) (rate(syncd_echoes_total{SCOPE}" + PER_MINUTE},
                ),
                CONFLICTS,
                SET_ASIDE,
                lines(
                    "Lost to retention, an hour",
                    "short",
                    {"events": "sum(increase(syncd_events_missed_total{SCOPE}[1h]))"},
                    (1, RED),
                ),
            ),
        },
    ),
    "replicas": (
        "syncd: replicas",
        {
            "Who is there": (
                number("Replicas", "short", "count(syncd_build_info{SCOPE})", (1, GREEN), below=RED),
                number("Sweeping", "short", "sum(syncd_leader{SCOPE})", (1, GREEN), below=RED),
                lines("Versions", "short", {"{{version}}": "count by (version) (syncd_build_info{SCOPE})"}),
                lines("Who sweeps", "short", {"{{pod}} {{instance}}": "syncd_leader{SCOPE}"}),
                lines("Parts that answer", "short", {"{{part}} {{pod}}": "syncd_up{SCOPE}"}),
            ),
            "What they use": (
                lines(
                    "CPU seconds a second",
                    "short",
                    {"{{pod}} {{instance}}": "rate(syncd_process_cpu_seconds_total{SCOPE}[$__rate_interval])"},
                ),
                lines("Memory", "bytes", {"{{pod}} {{instance}}": "syncd_process_resident_memory_bytes{SCOPE}"}),
                lines("Open files", "short", {"{{pod}} {{instance}}": "syncd_process_open_fds{SCOPE}"}),
            ),
        },
    ),
}


def boards() -> dict[str, str]:
    """File name to JSON."""
    return {f"{name}.json": _json(name, title, rows) for name, (title, rows) in BOARDS.items()}


def _json(name: str, title: str, rows: Mapping[str, tuple[Panel, ...]]) -> str:
    board = (
        dashboard.Dashboard(title)
        .uid(f"syncd-{name}")
        .tags(["syncd"])
        .refresh("1m")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Data source").type("prometheus"))
    )
    for label in ("namespace", "job"):
        board = board.with_variable(
            dashboard.QueryVariable(label)
            .datasource(SOURCE)
            .query(f"label_values(syncd_build_info, {label})")
            .include_all(True)
            .all_value(".*")
            .current(VariableOption(selected=True, text="All", value="$__all"))
            .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
            .multi(True)
        )
    for row, panels in rows.items():
        board = board.with_row(dashboard.Row(row))
        for panel in panels:
            board = board.with_panel(_panel(panel, 24 // max(3, len(panels)) if panel.is_number else 8))
    return json.dumps(json.loads(json.dumps(board.build(), cls=JSONEncoder)), indent=1, sort_keys=True) + "\n"


def _panel(panel: Panel, width: int) -> stat.Panel | timeseries.Panel:
    made: stat.Panel | timeseries.Panel = stat.Panel() if panel.is_number else _lines(panel)
    steps = [Threshold(value=None, color=panel.below), *(Threshold(value=at, color=to) for at, to in panel.steps)]
    made = (
        made.title(panel.title)
        .unit(panel.unit)
        .datasource(SOURCE)
        .height(4 if panel.is_number else 8)
        .span(width)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    )
    if panel.says:
        made = made.description(panel.says)
    for name, (legend, query) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        asked = prometheus.Dataquery().ref_id(name).expr(query.replace("SCOPE", SCOPE))
        made = made.with_target(asked.legend_format(legend or "__auto"))
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    how = GraphThresholdsStyleMode.DASHED if panel.steps else GraphThresholdsStyleMode.OFF
    return timeseries.Panel().min(0).thresholds_style(common.GraphThresholdsStyleConfig().mode(how))
