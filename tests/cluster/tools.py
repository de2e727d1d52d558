"""Helm, its test runner and two judges of manifests: built once by Go, and kept in the user's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syncd-tests"
KUBERNETES = "1.33"
HELM = "v3.22.0"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
"""Not in ``tools/go.mod``: it needs an older Kubernetes than the others."""
# Without these Helm believes that it talks to Kubernetes 1.20.
_MAJOR, _MINOR = KUBERNETES.split(".")
FLAGS = " ".join(
    [
        "-s -w",
        f"-X helm.sh/helm/v3/internal/version.version={HELM}",
        *(f"-X helm.sh/helm/v3/pkg/{room}.k8sVersionMajor={_MAJOR}" for room in ("chartutil", "lint/rules")),
        *(f"-X helm.sh/helm/v3/pkg/{room}.k8sVersionMinor={_MINOR}" for room in ("chartutil", "lint/rules")),
    ]
)


class CannotBuild(Exception):
    pass


@cache
def tool(name: str) -> str:
    """Where ``helm``, ``helm-unittest``, ``kubeconform`` or ``kube-score`` is; the first call may take minutes."""
    folder = KEPT / "bin" / HELM
    if not (folder / name).exists():
        if shutil.which("go") is None:
            raise CannotBuild("there is no Go: it builds the tools for the chart")
        environ = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=readonly"}
        what = ["-s -w", KUBE_SCORE] if name == "kube-score" else [FLAGS, "tool"]
        where = None if name == "kube-score" else HERE / "tools"
        ran = subprocess.run(
            ["go", "install", "-ldflags", *what], cwd=where, env=environ, check=False, capture_output=True, text=True
        )
        if not (folder / name).exists():
            raise CannotBuild(f"{name} could not be built: {ran.stderr[-1000:]}")
    return str(folder / name)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool(name), *arguments], check=False, capture_output=True, text=True, timeout=120)


@cache
def schemas() -> Path:
    """Kubernetes' schemas, as kubeconform wants them: those of a wheel, without the names that point elsewhere."""
    made = KEPT / f"schemas-{KUBERNETES}"
    source = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    if not made.exists():
        half = made.with_suffix(f".{os.getpid()}")
        folder = half / f"v{KUBERNETES}.0-standalone-strict"
        folder.mkdir(parents=True)
        for path in Path(str(source)).glob("*.json"):
            schema = json.loads(path.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
            schema.pop("$id", None)
            (folder / path.name).write_text(json.dumps(schema))
        half.rename(made)
    return made
