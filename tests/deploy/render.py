"""The chart, rendered by Helm's own library."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "syncd"
KUBERNETES = "1.33"
Document = dict[str, Any]

LEAST: dict[str, Any] = {
    "image": {"repository": "images.example/syncd"},
    "config": {"kafka": {"bootstrap_servers": "kafka-1:9092,kafka-2:9092"}, "ion": {"account_id": "20481"}},
    "secret": {"existing": "syncd-secrets"},
}
POSTGRESQL: dict[str, Any] = {"database": "postgresql", "replicas": 3}
CREATED: dict[str, Any] = {
    "secret": {
        "existing": "",
        "create": {
            "SYNCD_ADMIN__TOKEN": "t",
            "SYNCD_DATABASE__URL": "postgresql://syncd:secret@db/syncd",
            "SYNCD_SECRET_KEY": "k",
            "SYNCD_ION__REFRESH_TOKEN": "r",
        },
    }
}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "config": {"guard": {"max_updates": 1_000_000}, "sync": {"create_in_crm": False, "fresh_seconds": 7.5}},
    "mapping": {"fields": {"phone": {"direction": "crm-to-ion"}}},
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "syncd-tls", "annotations": {"a/b": "c"}},
    "networkPolicy": {"from": [{"podSelector": {}}], "egress": [{"to": [{"podSelector": {}}]}]},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "runbooks": "https://wiki.example/syncd"},
        "dashboards": {"enabled": True},
    },
    "serviceAccount": {"name": "me", "annotations": {"a/b": "c"}},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    ],
    "podLabels": {"team": "crm"},
    "podAnnotations": {"a/b": "c"},
    "commonLabels": {"owner": "ops"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "kafka-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/kafka-ca"}],
    "service": {"type": "LoadBalancer", "annotations": {"a/b": "c"}},
    "fullnameOverride": "ion-sync",
}
MATRIX: dict[str, tuple[dict[str, Any], ...]] = {
    "SQLite, as little as can be": (),
    "SQLite on a claim of one's own": (
        {"persistence": {"existingClaim": "mine"}, "networkPolicy": {"enabled": False}},
    ),
    "PostgreSQL": (POSTGRESQL,),
    "PostgreSQL, with a secret of the chart's": (POSTGRESQL, CREATED),
    "PostgreSQL, scaled by others": (POSTGRESQL, {"autoscaling": {"enabled": True, "by": "others"}}),
    "SQLite, for maintenance": ({"maintenance": True},),
    "PostgreSQL, without what can be left out": (
        POSTGRESQL,
        {
            "migration": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
            "serviceAccount": {"create": False},
        },
    ),
    "PostgreSQL, with everything": (POSTGRESQL, CREATED, EVERYTHING),
}


def values_of(*more: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in (LEAST, *more):
        found = _over(each, found)
    return found


def _over(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    both = {name: _over(value, old[name]) for name, value in new.items() if _are_both_dicts(value, old.get(name))}
    return {**old, **new, **both}


def _are_both_dicts(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


@cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def render(*more: dict[str, Any], name: str = "syncd") -> list[Document]:
    """What would be installed; the notes are left out."""
    files = chart().render(values_of(*more), name=name, namespace="crm")
    texts = [text for path, text in files.items() if not path.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def one(documents: list[Document], kind: str) -> Document:
    [found] = [
        document for document in documents if document["kind"] == kind and "helm.sh/hook" not in _notes(document)
    ]
    return found


def hooks(documents: list[Document]) -> list[Document]:
    return [document for document in documents if "helm.sh/hook" in _notes(document)]


def _notes(document: Document) -> dict[str, str]:
    return document["metadata"].get("annotations", {})
