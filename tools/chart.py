"""What is made of the chart's ``values.yaml``: its JSON Schema, which refuses what is misspelled, and its README.

A key may hold what its default holds; ``HOLDS`` says more where that is not enough. Below ``config`` and
``secret.create`` are syncd's own settings, so that a wrong one is refused before anything is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from syncd.settings import PREFIX, Settings, keys

TYPES = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
SET_BY_THE_CHART = {"database", "admin", "mapping_file", "secret_key"}
HOLDS: Mapping[str, dict[str, Any]] = {
    "database": {"enum": ["sqlite", "postgresql"]},
    "replicas": {"type": "integer", "minimum": 1},
    "autoscaling.by": {"enum": ["cpu", "others"]},
    "image.pullPolicy": {"enum": ["IfNotPresent", "Always", "Never"]},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "terminationGracePeriodSeconds": {"type": "integer", "minimum": 40},
    "networkPolicy.ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "podDisruptionBudget.maxUnavailable": {"type": ["integer", "string"]},
    **{
        f"{path}": TEXTS
        for path in (
            "commonLabels",
            "ingress.annotations",
            "monitoring.dashboards.labels",
            "monitoring.rules.labels",
            "monitoring.serviceMonitor.labels",
            "nodeSelector",
            "podAnnotations",
            "podLabels",
            "service.annotations",
            "serviceAccount.annotations",
        )
    },
}
OPEN = {
    "resources",
    "podSecurityContext",
    "affinity",
    "mapping",
    "probes.liveness",
    "probes.readiness",
    "probes.startup",
}
"""Kubernetes' own shapes, and the mapping's: checked by those."""


def schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """For ``values.schema.json``: every object is closed but those of somebody else's shape."""
    made = _object(values, "")
    made["properties"]["config"] = _config()
    made["properties"]["secret"]["properties"]["create"] = _secrets()
    made["properties"]["global"] = {"type": "object"}  # Helm's own, where the chart is part of another
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of syncd", **made}


def _object(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    inner = {name: _value(value, f"{path}{name}") for name, value in values.items()}
    return {"type": "object", "additionalProperties": False, "properties": inner}


def _value(value: Any, path: str) -> dict[str, Any]:
    if path in HOLDS:
        return dict(HOLDS[path])
    if isinstance(value, dict) and path not in OPEN:
        return _object(value, f"{path}.")
    return {"type": TYPES[type(value)]}


def _config() -> dict[str, Any]:
    told = Settings.model_json_schema()
    secrets = {key for key, _ in _secret_settings()}
    sections: dict[str, Any] = {}
    for name, field in told["properties"].items():
        section = told["$defs"].get(str(field.get("$ref", "")).rpartition("/")[2])
        if section is None or name in SET_BY_THE_CHART:
            continue
        parts = {part: _plain(leaf, told) for part, leaf in section["properties"].items()}
        open_parts = {part: leaf for part, leaf in parts.items() if f"{name}__{part}".upper() not in secrets}
        sections[name] = {"type": "object", "additionalProperties": False, "properties": open_parts}
    for section, part in (("kafka", "bootstrap_servers"), ("ion", "account_id")):
        leaf = sections[section]["properties"][part]
        sections[section]["properties"][part] = {"type": "string", "description": leaf["description"]}
    return {"type": "object", "additionalProperties": False, "properties": sections}


def _plain(leaf: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """One setting; a choice that is described elsewhere is put in its place."""
    named = told["$defs"].get(str(leaf.get("$ref", "")).rpartition("/")[2], {})
    return {name: said for name, said in {**named, **leaf}.items() if name not in ("$ref", "title", "default")}


def _secrets() -> dict[str, Any]:
    given = {f"{PREFIX}{key}": {"type": "string", "description": said} for key, said in _secret_settings()}
    return {"type": "object", "additionalProperties": False, "properties": given}


def _secret_settings() -> Iterator[tuple[str, str]]:
    for key, field in keys():
        if "SecretStr" in str(field.annotation) or key == "DATABASE__URL":
            yield key, field.description or ""


def readme(text: str, head: str) -> str:
    """The chart's README: every value of ``values.yaml``, with the comment that begins with ``--`` above it."""
    rows = [f"| `{path}` | {default} | {said} |" for path, default, said in _told(text)]
    return "\n".join([head.rstrip(), "", "| value | default | meaning |", "| --- | --- | --- |", *rows, ""])


def _told(text: str) -> Iterator[tuple[str, str, str]]:
    """Each key with its default and what is said of it; a group of keys only where something is."""
    values, said, place = yaml.safe_load(text), list[str](), list[tuple[int, str]]()
    for line in text.splitlines():
        if comment := re.match(r"\s*# (?:-- )?(.*)", line):
            said = [comment[1]] if "# -- " in line else [*said, comment[1]]
        elif key := re.match(r"( *)([A-Za-z][\w-]*):", line):
            depth = len(key[1])
            place = [(indent, name) for indent, name in place if indent < depth] + [(depth, key[2])]
            path = [name for _, name in place]
            default = _at(values, path)
            is_group = isinstance(default, dict) and bool(default)
            if said or not is_group:
                yield ".".join(path), "" if is_group else f"`{json.dumps(default)}`", " ".join(said)
            said = []


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values
