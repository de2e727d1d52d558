"""The chart: Helm accepts it, Kubernetes' schemas do, and what neither of them sees is checked here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml
from kubernetes_validate import validate

from syncd import __version__
from syncd.mapping import load_mapping
from syncd.settings import load
from tests.deploy.render import (
    CHART,
    CREATED,
    EVERYTHING,
    KUBERNETES,
    MATRIX,
    POSTGRESQL,
    Document,
    hooks,
    one,
    render,
    values_of,
)

OPERATORS = ("ServiceMonitor", "PrometheusRule")
"""Kinds that Kubernetes itself has no schema of."""


@pytest.fixture(params=MATRIX, name="documents")
def _documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(*MATRIX[request.param])


def pods(documents: list[Document]) -> Iterator[tuple[Document, dict[str, Any]]]:
    for document in documents:
        if document["kind"] in ("Deployment", "Job"):
            yield document, document["spec"]["template"]["spec"]


@pytest.mark.parametrize("case", MATRIX)
def test_helm_finds_nothing_to_object_to(case: str) -> None:
    found = helm_python.lint(CHART, values_of(*MATRIX[case]), strict=True, kube_version=f"{KUBERNETES}.0")
    assert found["errors"] == []
    assert [each for each in found["messages"] if each["error"] != "icon is recommended"] == []


def test_every_document_is_what_kubernetes_knows(documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] not in OPERATORS:
            validate(document, KUBERNETES, strict=True)


def test_what_belongs_together_is_named_alike(documents: list[Document]) -> None:
    """What no schema sees: selectors, volumes, ports, and who uses what."""
    deployment = one(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], one(documents, "Service")["spec"]["selector"]]
    selectors += [d["spec"]["selector"]["matchLabels"] for d in documents if d["kind"] == "PodDisruptionBudget"]
    for selector in selectors:
        assert selector.items() <= labels.items()
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for owner, pod in pods(documents):
        [container] = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        for source in container["envFrom"]:
            assert ("ConfigMap", source["configMapRef"]["name"]) in names
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume and volume["persistentVolumeClaim"]["claimName"] != "mine":
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
            if volume.get("secret", {}).get("secretName", "syncd-secrets") != "syncd-secrets":
                assert ("Secret", volume["secret"]["secretName"]) in names
        if owner["kind"] == "Deployment" and "command" not in container:
            [port] = container["ports"]
            assert {
                container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("liveness", "readiness", "startup")
            } == {port["name"]}
    assert len(names) == len(documents), "nothing is there twice"
    for _, name in names:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name)


def test_pods_may_do_nothing_that_they_need_not(documents: list[Document]) -> None:
    for _, pod in pods(documents):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    assert not [d for d in documents if d["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")]


def test_secrets_reach_no_config_map_and_no_environment(documents: list[Document]) -> None:
    text = json.dumps([document for document in documents if document["kind"] != "Secret"])
    assert "postgresql://" not in text
    for _, pod in pods(documents):
        [container] = pod["containers"]
        assert all("secretRef" not in source for source in container["envFrom"])
        assert {e["name"] for e in container.get("env", [])} <= {"HTTPS_PROXY"}


def test_the_settings_are_what_syncd_reads(documents: list[Document], tmp_path: Any) -> None:
    """The ConfigMap and the Secret as a pod would get them, read by the settings themselves."""
    maps = [d["data"] for d in documents if d["kind"] == "ConfigMap" and d not in hooks(documents)]
    [told] = [data for data in maps if "SYNCD_ADMIN__HOST" in data]
    environ = {name: value for name, value in told.items() if name.startswith("SYNCD_")}
    if "mapping.yaml" in told:
        (tmp_path / "mapping.yaml").write_text(told["mapping.yaml"])
        assert load_mapping(tmp_path / "mapping.yaml").fingerprint != load_mapping(None).fingerprint
    secrets = {**CREATED["secret"]["create"], "SYNCD_SECRET_KEY": base64.urlsafe_b64encode(bytes(32)).decode()}
    if environ.get("SYNCD_DATABASE__URL"):
        del secrets["SYNCD_DATABASE__URL"]
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    settings, _ = load(None, {**environ, "SYNCD_SECRETS_DIR": str(tmp_path)})
    assert settings.ion.account_id == "20481"
    assert settings.kafka.bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    assert settings.admin.token is not None
    if "SYNCD_GUARD__MAX_UPDATES" in environ:
        assert (settings.guard.max_updates, settings.sync.create_in_crm, settings.sync.fresh_seconds) == (
            1_000_000,
            False,
            7.5,
        )


def test_one_replica_on_sqlite_several_on_postgresql() -> None:
    sqlite, postgresql = render(), render(POSTGRESQL)
    assert one(sqlite, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert one(sqlite, "PersistentVolumeClaim")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert hooks(sqlite) == []
    assert "PodDisruptionBudget" not in [document["kind"] for document in sqlite]
    assert one(postgresql, "Deployment")["spec"]["replicas"] == 3
    assert one(postgresql, "Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert one(postgresql, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert "PersistentVolumeClaim" not in [document["kind"] for document in postgresql]
    spread = one(postgresql, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_the_migration_runs_before_anything_else_is_there_and_brings_what_it_needs() -> None:
    found = hooks(render(POSTGRESQL, CREATED))
    assert [document["kind"] for document in found] == ["ConfigMap", "Secret", "Job"]
    weights = [int(d["metadata"]["annotations"].get("helm.sh/hook-weight", "0")) for d in found]
    assert weights == [-1, -1, 0]
    for document in found:
        notes = document["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    [job] = [document for document in found if document["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["db", "upgrade"]


def test_the_number_of_replicas_is_left_to_whoever_scales() -> None:
    scaled = render(POSTGRESQL, {"autoscaling": {"enabled": True, "by": "others"}})
    assert "replicas" not in one(scaled, "Deployment")["spec"]
    assert "HorizontalPodAutoscaler" not in [document["kind"] for document in scaled]
    assert "PodDisruptionBudget" in [document["kind"] for document in scaled]


def test_for_maintenance_a_pod_runs_nothing_and_is_asked_nothing() -> None:
    spec = one(render(POSTGRESQL, {"maintenance": True}), "Deployment")["spec"]
    [container] = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 1
    assert container["command"] == ["sleep", "infinity"]
    assert not [name for name in container if name.endswith("Probe")]


def test_the_network_policy_is_for_syncds_pods_and_no_others() -> None:
    documents = render(POSTGRESQL)
    selector = one(documents, "NetworkPolicy")["spec"]["podSelector"]
    [among] = selector["matchExpressions"]
    for _, template in ((d, d["spec"]["template"]) for d in documents if d["kind"] in ("Deployment", "Job")):
        labels = template["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
        assert labels[among["key"]] in among["values"]


def test_a_pod_is_let_end_what_is_under_way() -> None:
    from syncd.daemon import DRAIN_SECONDS

    pod = one(render(), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS + 10


def test_a_changed_setting_or_secret_replaces_the_pods() -> None:
    def notes(*more: dict[str, Any]) -> dict[str, str]:
        return one(render(*more), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert notes()["checksum/config"] != notes({"config": {"poll": {"interval_seconds": 30}}})["checksum/config"]
    assert notes()["checksum/config"] != notes({"mapping": {"fields": {}, "version": 1}})["checksum/config"]
    other = {"secret": {"create": {"SYNCD_ADMIN__TOKEN": "another"}}}
    assert notes(CREATED)["checksum/secret"] != notes(CREATED, other)["checksum/secret"]


def test_the_runbooks_are_linked_where_they_are() -> None:
    rules = one(render(POSTGRESQL, CREATED, EVERYTHING), "PrometheusRule")["spec"]["groups"][0]["rules"]
    links = {rule["annotations"]["runbook_url"] for rule in rules}
    assert links == {f"https://wiki.example/syncd/{rule['alert']}.md" for rule in rules}


def test_the_dashboards_are_found_by_grafanas_sidecar() -> None:
    maps = [d for d in render(POSTGRESQL, CREATED, EVERYTHING) if d["metadata"]["labels"].get("grafana_dashboard")]
    titles = {json.loads(text)["title"] for document in maps for text in document["data"].values()}
    assert titles == {"syncd: overview", "syncd: calls to ION", "syncd: events from the CRM", "syncd: replicas"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"replicas": 2}, "SQLite carries one replica"),
        ({"autoscaling": {"enabled": True}}, "SQLite carries one replica"),
        ({"image": {"repository": ""}}, "image.repository is missing"),
        ({"secret": {"existing": ""}}, "secret.existing is missing"),
        ({"secret": {"create": {"SYNCD_ADMIN__TOKEN": "t"}}}, "both given"),
        (
            {**POSTGRESQL, "secret": {"existing": "", "create": {"SYNCD_ADMIN__TOKEN": "t"}}},
            "SYNCD_DATABASE__URL is missing",
        ),
        ({"config": {"ion": {"account_id": ""}}}, "config.ion.account_id is missing"),
        ({"config": {"kafka": {"bootstrap_servers": ""}}}, "config.kafka.bootstrap_servers is missing"),
        ({"ingress": {"enabled": True}}, "ingress.tlsSecret is missing"),
        ({"replica": 2}, "replica"),
        ({"replicas": "two"}, "replicas"),
        ({"replicas": 0}, "replicas"),
        ({"database": "mysql"}, "database"),
        ({"config": {"ion": {"account_id": 20481}}}, "account_id"),
        ({"config": {"ion": {"acount_id": "20481"}}}, "acount_id"),
        ({"config": {"ion": {"calls_per_minute": 0}}}, "calls_per_minute"),
        ({"config": {"ion": {"refresh_token": "in the clear"}}}, "refresh_token"),
        ({"config": {"database": {"url": "sqlite:///else.db"}}}, "database"),
        ({"secret": {"existing": "", "create": {"SYNCD_TOKEN": "t"}}}, "SYNCD_TOKEN"),
        ({"image": {"digest": "sha256:short"}}, "digest"),
        ({"terminationGracePeriodSeconds": 10}, "terminationGracePeriodSeconds"),
        ({"networkPolicy": {"ports": ["https"]}}, "ports"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_not_work_is_refused_with_what_to_do(values: dict[str, Any], says: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render(values)
    assert says in str(refused.value)


def test_the_versions_are_the_packages() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert told["appVersion"] == __version__
    assert one(render(), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"].endswith(
        f":{__version__}"
    )
