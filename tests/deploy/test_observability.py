"""Alerts fire when they should and not otherwise; alerts and dashboards ask for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from syncd.metrics import Metrics
from tests.conftest import _missing
from tests.deploy.render import CREATED, EVERYTHING, POSTGRESQL, ROOT, one, render
from tests.parts.prometheus import NoPrometheus, promtool

HERE = Path(__file__).parent
ALERTS = ROOT / "deploy" / "observability" / "alerts.yaml"
DASHBOARDS = sorted((ROOT / "deploy" / "observability" / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "operations"
PARTS = ("_bucket", "_sum", "_count", "_total", "_info", "_created")


@pytest.fixture(scope="module", name="rules")
def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "command", [("check", "rules", str(ALERTS)), ("test", "rules", str(HERE / "alerts_test.yaml"))]
)
def test_prometheus_itself_takes_the_rules_and_their_tests(command: tuple[str, ...]) -> None:
    try:
        ran = promtool(*command)
    except NoPrometheus as error:
        _missing("Prometheus", str(error))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "SUCCESS" in ran.stdout


def test_prometheus_takes_the_rules_as_the_chart_renders_them(tmp_path: Path) -> None:
    rules = one(render(POSTGRESQL, CREATED, EVERYTHING), "PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    try:
        ran = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    except NoPrometheus as error:
        _missing("Prometheus", str(error))
    assert "SUCCESS: 21 rules found" in ran.stdout, ran.stdout + ran.stderr
    [gone] = [rule for rule in rules["groups"][0]["rules"] if rule["alert"] == "SyncdGone"]
    assert gone["expr"] == 'absent(syncd_build_info{namespace="crm"})'


def test_the_tests_of_the_rules_can_fail(tmp_path: Path) -> None:
    """One that never fires is found out."""
    broken = ALERTS.read_text().replace("== 0\n        for: 5m", "== 2\n        for: 5m")
    (tmp_path / "alerts.yaml").write_text(broken)
    tests = (HERE / "alerts_test.yaml").read_text().replace("../../deploy/observability/", "")
    (tmp_path / "tests.yaml").write_text(tests)
    try:
        ran = promtool("test", "rules", str(tmp_path / "tests.yaml"))
    except NoPrometheus as error:
        _missing("Prometheus", str(error))
    assert ran.returncode == 1
    assert "SyncdNoLeader" in ran.stdout + ran.stderr


def test_every_alert_is_seen_to_fire_and_seen_to_rest(rules: list[dict[str, Any]]) -> None:
    told = yaml.safe_load((HERE / "alerts_test.yaml").read_text())
    checks = [check for test in told["tests"] for check in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules}
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == names


def test_every_alert_has_its_page_and_every_page_its_alert(rules: list[dict[str, Any]]) -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {rule["alert"] for rule in rules}
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"docs/operations/{rule['alert']}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text()
        for heading in ("## What it means", "## What to look at", "## What to do"):
            assert heading in page, (rule["alert"], heading)


def queries() -> Iterator[tuple[str, str]]:
    for rule in [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]:
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in _panels(json.loads(path.read_text())):
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def _panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield from panel.get("panels", [])
        if panel["type"] != "row":
            yield panel


def _selectors(expression: str) -> Iterator[Any]:
    waiting = [promql_parser.parse(expression.replace("$__rate_interval", "5m"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        waiting += [
            part
            for name in ("lhs", "rhs", "expr", "args", "vector_selector", "param")
            if (found := getattr(node, name, None)) is not None
            for part in (found if isinstance(found, list) else [found])
        ]


@pytest.mark.parametrize(("where", "expression"), list(queries()), ids=lambda value: value[:40])
def test_every_query_names_a_metric_that_there_is_by_labels_that_it_has(where: str, expression: str) -> None:
    families = {metric.name: metric for metric in Metrics().registry.collect()}
    labels = _labels()
    found = list(_selectors(expression))
    assert found, where
    for selector in found:
        family = selector.name if selector.name in families else re.sub(f"({'|'.join(PARTS)})$", "", selector.name)
        assert family in families, f"{where} asks for {selector.name}"
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= labels[family] | {"namespace", "job"}, f"{where} asks {selector.name} for {asked}"


def _labels() -> dict[str, set[str]]:
    """Family to the labels that it is given, by the metrics' own book-keeping."""
    metrics = Metrics()
    known = {name: set[str]() for name in (metric.name for metric in metrics.registry.collect())}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            known[metric._name] = set(metric._labelnames)
    return known


def test_every_panel_has_a_unit_and_a_place_of_its_own() -> None:
    assert len(DASHBOARDS) == 4
    for path in DASHBOARDS:
        panels = list(_panels(json.loads(path.read_text())))
        taken = set[tuple[int, int]]()
        for panel in panels:
            assert panel["fieldConfig"]["defaults"]["unit"], (path.stem, panel["title"])
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], (path.stem, panel["title"])
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (path.stem, panel["title"])
            assert place["x"] + place["w"] <= 24
            taken |= cells


def test_every_metric_is_shown_or_alerted_on() -> None:
    asked = {selector.name for _, expression in queries() for selector in _selectors(expression)}
    asked = {re.sub(f"({'|'.join(PARTS)})$", "", name) for name in asked} | asked
    known = {metric.name for metric in Metrics().registry.collect() if not metric.name.startswith("syncd_process")}
    assert known - asked == set()
