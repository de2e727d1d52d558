"""Prometheus, by Debian's package: its tool for rules and their tests, and the server itself."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.parts.debian import INSTALL, installed
from tests.parts.world import eventually, http


class NoPrometheus(Exception):
    pass


def _found(program: str) -> str:
    found = installed(program, "prometheus")
    if found is None:
        raise NoPrometheus(f"there is no {program}: `{INSTALL} prometheus`")
    return found


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [_found("promtool"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


@contextmanager
def prometheus(folder: Path, target: str, rules: Path) -> Iterator[str]:
    """A server that scrapes one target each second; its address."""
    program = _found("prometheus")
    config = folder / "prometheus.yaml"
    config.write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
        f"rule_files: ['{rules}']\n"
        f"scrape_configs: [{{job_name: syncd, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        eventually(lambda: _is_up(address), "Prometheus is up")
        yield address
    finally:
        server.kill()
        server.wait()


def _is_up(address: str) -> bool:
    try:
        return bool(_targets(address))
    except OSError:
        return False


def _targets(address: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http("GET", f"http://{address}/api/v1/targets")["data"]["activeTargets"]
    return found


def last_error(address: str) -> str | None:
    """What was wrong with the last scrape; ``None`` before the first."""
    [target] = _targets(address)
    return str(target["lastError"]) if target["health"] != "unknown" else None


def firing(address: str) -> set[str]:
    alerts = http("GET", f"http://{address}/api/v1/alerts")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
