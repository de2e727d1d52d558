"""Commands of ``syncd`` as processes of their own, forked from one that has loaded it: a tenth of the time each."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["syncd.cli", "syncd.app", "syncd.ion.market", "sqlalchemy.dialects.sqlite.aiosqlite"])


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def run(arguments: tuple[str, ...], environ: Mapping[str, str], folder: Path) -> Said:
    """One command, in an environment that has nothing of ``SYNCD_…`` but this."""
    out, err = folder / "out", folder / "err"
    process = FORKS.Process(target=_command, args=(arguments, dict(environ), str(out), str(err)))
    process.start()
    process.join(120)
    assert process.exitcode is not None, f"still running: syncd {' '.join(arguments)}"
    return Said(process.exitcode, out.read_text(), err.read_text())


def _command(arguments: tuple[str, ...], environ: Mapping[str, str], out: str, err: str) -> None:
    for name in [name for name in os.environ if name.startswith("SYNCD_")]:
        del os.environ[name]
    os.environ.update(environ)
    for path, number in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8")
    sys.argv = ["syncd", *arguments]
    from syncd.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
