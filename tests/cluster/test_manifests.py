"""What real Helm makes of the chart, and what those say who judge manifests for a living."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.tools import CannotBuild, run, schemas
from tests.conftest import _missing
from tests.deploy.render import CHART, KUBERNETES, MATRIX, render, values_of

LEFT_OUT = (
    "container-image-pull-policy",  # a tag of ours is never moved
    "deployment-has-host-podantiaffinity",  # topology spread does it, and lets the last node carry two
)


@pytest.fixture(params=MATRIX, name="values")
def _values(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    given: dict[str, Any] = values_of(*MATRIX[request.param])
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(given))
    return str(path)


@pytest.fixture
def manifests(values: str, tmp_path: Path) -> str:
    ran = run("helm", "template", "syncd", str(CHART), "--namespace", "crm", "--values", values)
    assert ran.returncode == 0, ran.stderr
    (tmp_path / "all.yaml").write_text(ran.stdout)
    return str(tmp_path / "all.yaml")


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    try:
        run("helm", "version")
        run("kube-score", "version")
    except CannotBuild as error:
        _missing("Helm", str(error))


def test_helm_lints_it(values: str) -> None:
    ran = run("helm", "lint", "--strict", str(CHART), "--values", values)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def kubeconform(path: str, *more: str) -> subprocess.CompletedProcess[str]:
    about = ("-kubernetes-version", f"{KUBERNETES}.0", "-schema-location", str(schemas()))
    return run("kubeconform", "-strict", *about, *more, path)


def test_kubernetes_schemas_fit(manifests: str) -> None:
    ran = kubeconform(manifests, "-skip=ServiceMonitor,PrometheusRule")
    assert ran.returncode == 0, ran.stdout + ran.stderr


ONE_REPLICA = {"Deployment update strategy", "Deployment few replicas"}
ASKED_FOR = {
    "SQLite, as little as can be": ONE_REPLICA,
    "SQLite on a claim of one's own": {*ONE_REPLICA, "The pod does not have a matching NetworkPolicy"},
    "SQLite, for maintenance": {*ONE_REPLICA, "Container is missing a readinessProbe"},
    "PostgreSQL, scaled by others": {"Deployment few replicas"},  # none are said
    "PostgreSQL, without what can be left out": {"No matching PodDisruptionBudget was found"},
}
"""What these values mean; nothing else is found in any."""


@pytest.mark.parametrize("case", MATRIX)
def test_kube_score_finds_nothing_that_was_not_asked_for(case: str, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(render(*MATRIX[case])))
    ignored = [part for name in LEFT_OUT for part in ("--ignore-test", name)]
    how = ("--kubernetes-version", f"v{KUBERNETES}", "--ignore-container-cpu-limit", *ignored, "-o", "ci")
    ran = run("kube-score", "score", *how, str(tmp_path / "all.yaml"))
    found = [line for line in ran.stdout.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
    assert {line.rpartition(": ")[2] for line in found} == ASKED_FOR.get(case, set())


def test_the_charts_own_unit_tests_pass() -> None:
    ran = run("helm-unittest", str(CHART))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Test Suites: 3 passed" in ran.stdout


def test_each_judge_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    pod = "{metadata: {labels: {a: c}}, spec: {containers: []}}"
    text = f"spec: {{replicas: two, selector: {{matchLabels: {{a: b}}}}, template: {pod}}}\n"
    wrong.write_text(f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: x}}\n{text}")
    assert "replicas" in kubeconform(str(wrong)).stdout
    wrong.write_text(wrong.read_text().replace("two", "2"))
    assert kubeconform(str(wrong)).returncode == 0
    assert "selector" in run("kube-score", "score", str(wrong)).stdout
