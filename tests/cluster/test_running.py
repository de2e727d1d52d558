"""The image, and the chart's pod made of it: under its user, read-only, without capabilities, beside real parts."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd import __version__
from tests.cluster.containers import IMAGE, Engine, NoContainers
from tests.conftest import _missing
from tests.deploy.render import ROOT, one, render
from tests.parts.kafka import Kafka
from tests.parts.world import SimulatedIon, Topics, eventually, http
from tests.system.test_day import customer

PLAYED = ("ConfigMap", "Secret", "PersistentVolumeClaim", "Deployment")
REFRESH, ADMIN = "first", "console"
SECONDS_OF_GRACE = 40


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        made = Engine()
        made.build(__version__)
    except NoContainers as error:
        _missing("buildah and podman", str(error))
    return made


def as_podman_reads(secret: str) -> str:
    """Podman 4.3 hands a Secret's data on as it stands in the manifest, in base64."""
    return base64.b64encode(secret.encode()).decode()


def test_the_dockerfile_is_linted() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run([hadolint, ROOT / "deploy/docker/Dockerfile"], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_image_holds_what_it_needs_and_no_tools(engine: Engine) -> None:
    image = engine.inspect("image", f"{IMAGE}:{__version__}")
    about = image["Config"]
    assert (about["User"], about["Entrypoint"], about["Cmd"]) == ("10001:10001", ["syncd"], ["run"])
    assert "livez" in str(image["Healthcheck"])
    run = ("run", "--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    name = f"{IMAGE}:{__version__}"
    assert engine.podman(*run, name, "--version") == f"syncd {__version__}"
    look = "for tool in gcc make git pip /opt/syncd/bin/pip /tools; do command -v $tool; done; id -u; touch /opt/x"
    found = engine.run("podman", *run, "--entrypoint=sh", name, "-c", look, is_expected_to_work=False)
    assert found.stdout.split() == ["10001"]
    assert "Read-only file system" in found.stderr
    wrong = engine.run("podman", *run, name, is_expected_to_work=False)
    assert wrong.returncode == 2
    assert "SYNCD_KAFKA__BOOTSTRAP_SERVERS is missing" in wrong.stderr


def test_the_charts_pod_syncs_answers_its_probes_and_ends_in_time(
    engine: Engine, kafka: Kafka, tmp_path: Path
) -> None:
    ion = SimulatedIon(
        tmp_path, dialect="live", customers=0, calls_per_minute=600, refresh_token=as_podman_reads(REFRESH)
    )
    topics = Topics(kafka.address, "pod")
    documents = render(
        {
            "image": {"repository": IMAGE, "pullPolicy": "Never"},
            "config": {
                "ion": {"url": ion.url, "calls_per_minute": 600},
                "kafka": {
                    "bootstrap_servers": kafka.address,
                    "events_topic": topics.events,
                    "commands_topic": topics.commands,
                    "links_topic": topics.links,
                    "dead_letters_topic": topics.dead_letters,
                    "create_topics": True,
                },
                "poll": {"interval_seconds": 1},
            },
            "secret": {"existing": "", "create": {"SYNCD_ADMIN__TOKEN": ADMIN, "SYNCD_ION__REFRESH_TOKEN": REFRESH}},
        }
    )
    on_the_loopback(one(documents, "Deployment")["spec"]["template"]["spec"])
    manifests = tmp_path / "pod.yaml"
    manifests.write_text(yaml.safe_dump_all([d for d in documents if d["kind"] in PLAYED]))
    try:
        with engine.play(manifests) as name:
            eventually(lambda: answers("/livez") == 200, "it is alive", 30)
            eventually(lambda: answers("/readyz") == 200, "it is ready", 30)
            assert answers("/v1/status") == 401
            about = engine.inspect("container", name)
            assert about["HostConfig"]["ReadonlyRootfs"]
            assert "no-new-privileges" in about["HostConfig"]["SecurityOpt"]
            assert engine.podman("exec", name, "id", "-u") == "10001"
            assert "CapEff:\t0000000000000000" in engine.podman("exec", name, "cat", "/proc/1/status")
            topics.edit("C1", **customer())
            topics.flush()
            eventually(lambda: len(ion.customers()) == 1, "the CRM's customer is in ION", 30)
            ion.edit(next(iter(ion.customers())), email="pod@acme.example")
            eventually(
                lambda: [v for _, v in topics.read(topics.commands) if v["data"]["set"].get("email")], "and back", 30
            )
            told = engine.podman("exec", name, "syncd", "check")
            assert "Connected to TD SYNNEX ION: 1 customers visible" in told, told
            before = time.monotonic()
            engine.podman("stop", "--time", str(SECONDS_OF_GRACE), name)
            took, code = time.monotonic() - before, engine.inspect("container", name)["State"]["ExitCode"]
            log = engine.run("podman", "logs", name).stderr
            assert code == 0, log
            assert '"daemon_stopped"' in log
            assert took < SECONDS_OF_GRACE
            assert REFRESH not in log
            assert as_podman_reads(REFRESH) not in log
    finally:
        ion.process.stop(9)


def on_the_loopback(pod: dict[str, Any]) -> None:
    """Where the real parts are; podman maps no ports there, so they have no names."""
    [container] = pod["containers"]
    pod["hostNetwork"] = True
    [port] = container.pop("ports")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        container[probe]["httpGet"]["port"] = port["containerPort"]


def answers(path: str) -> int:
    try:
        http("GET", f"http://127.0.0.1:8080{path}")
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
    return 200
