"""Links in the docs lead somewhere, and what is counted there is so many."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(found), target


def test_the_tutorial_counts_dashboards_and_alerts_right() -> None:
    alerts = yaml.safe_load((ROOT / "deploy/observability/alerts.yaml").read_text())["groups"][0]["rules"]
    boards = list((ROOT / "deploy/observability/dashboards").glob("*.json"))
    assert (len(boards), len(alerts)) == (4, 21)
    assert "Four dashboards and twenty-one alerts" in (ROOT / "docs/kubernetes.md").read_text()


def test_the_tutorials_values_are_taken_by_the_chart() -> None:
    import helm_python

    text = (ROOT / "docs/kubernetes.md").read_text()
    values, monitoring = [
        yaml.safe_load(block)
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if "apiVersion" not in block
    ]
    chart = helm_python.Chart.load(ROOT / "deploy" / "helm" / "syncd")
    assert "kind: Deployment" in str(chart.render(values, name="syncd", namespace="syncd"))
    assert "kind: PrometheusRule" in str(chart.render({**values, **monitoring}, name="syncd", namespace="syncd"))
