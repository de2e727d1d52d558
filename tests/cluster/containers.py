"""Images and pods without a cluster: buildah builds, podman plays what the chart renders.

No base image can be had here, so a stand-in of its name is made of Debian's packages: that proves the Dockerfile's
steps, users, paths and entry point, and not the real base. What is slow to make is kept in the user's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.tools import KEPT
from tests.deploy.render import ROOT
from tests.parts.debian import installed

PACKAGES = ("buildah", "debootstrap", "podman", "crun", "runc", "catatonit")
BASE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "localhost/syncd"
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"""
CERTIFICATES = Path("/etc/ssl/certs")


class NoContainers(Exception):
    pass


class Engine:
    """Buildah and podman on a storage of the tests' own."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or (shutil.which("podman") is None and shutil.which("apt-get") is None):
            raise NoContainers(f"needs root, and Debian's packages {', '.join(PACKAGES)}")
        if missing := [name for name in PACKAGES if installed(name, *PACKAGES) is None]:
            raise NoContainers(f"there is no {missing[0]}")
        folder = KEPT / "containers"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "storage.conf").write_text(STORAGE.format(folder))
        (folder / "containers.conf").write_text(CONTAINERS)
        self._environ = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
        }

    def run(self, *command: str, is_expected_to_work: bool = True) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            command, check=False, capture_output=True, text=True, env=self._environ, cwd=ROOT, timeout=900
        )
        if is_expected_to_work and ran.returncode:
            raise AssertionError(f"{' '.join(command[:3])}: {ran.stderr[-2000:]}")
        return ran

    def podman(self, *arguments: str) -> str:
        return self.run("podman", *arguments).stdout.strip()

    def base_digest(self) -> str:
        """Of the stand-in; made at the first call, which takes two minutes."""
        if self.run("podman", "image", "exists", BASE, is_expected_to_work=False).returncode:
            with tempfile.TemporaryDirectory() as made:
                root = f"{made}/rootfs"
                packages = "ca-certificates,python3,python3-venv"
                self.run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root)
                Path(root, "usr/bin/python").symlink_to("python3")
                self.run("tar", "-C", root, "-cf", f"{made}/rootfs.tar", ".")
                self.run("podman", "import", f"{made}/rootfs.tar", BASE)
        return self.podman("image", "inspect", "--format", "{{.Digest}}", BASE)

    def build(self, tag: str) -> None:
        """The Dockerfile as it is."""
        arguments = [f"--build-arg=BASE={BASE}", f"--build-arg=BASE_DIGEST={self.base_digest()}"]
        how = ["--isolation=chroot", "--pull-never", "--layers=false", "--format=docker"]
        trusted = [
            f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"
        ]  # the build's pip has to trust what this machine trusts
        where = ["--file=deploy/docker/Dockerfile", f"--tag={IMAGE}:{tag}", "."]
        self.run("buildah", "build", *how, *trusted, *arguments, *where)

    @contextmanager
    def play(self, manifests: Path) -> Iterator[str]:
        """The pod of the rendered chart; its container's name. All of it is gone afterwards."""
        try:
            told = self.podman("kube", "play", str(manifests))
            pod = told.split("Pod:\n", 1)[1].split()[0]
            [name] = [c["Name"] for c in self.inspect("pod", pod)["Containers"] if not c["Name"].endswith("-infra")]
            try:
                yield name
            except AssertionError as error:
                error.add_note(self.run("podman", "logs", name).stderr[-4000:])
                raise
        finally:
            self.run("podman", "kube", "down", str(manifests), is_expected_to_work=False)
            for kind in ("volume", "secret"):
                names = self.podman(kind, "ls", "--format", "{{.Name}}").split()
                for name in names:
                    self.run("podman", kind, "rm", name, is_expected_to_work=False)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        found: Any = json.loads(self.podman(kind, "inspect", name))
        return found[0] if isinstance(found, list) else found  # type: ignore[no-any-return]
