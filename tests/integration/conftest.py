"""A command line on a database of its own, beside the simulated ION over real sockets, in either dialect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.shell import Said, run
from tests.parts.world import SimulatedIon


class Shell:
    def __init__(self, dialect: str, ion: SimulatedIon, folder: Path) -> None:
        self.dialect, self.ion = dialect, ion
        self._folder = folder
        self.database = folder / "syncd.db"
        self.environ = {
            "SYNCD_DATABASE__URL": f"sqlite:///{self.database}",
            "SYNCD_ION__URL": ion.url,
            "SYNCD_ION__ACCOUNT_ID": "20481",
            "SYNCD_ION__REFRESH_TOKEN": "initial-refresh-token",
            "SYNCD_ION__CALLS_PER_MINUTE": "6000",
            "SYNCD_ION__TIMEOUT_SECONDS": "2",
        }

    def run(self, *arguments: str) -> Said:
        return run(arguments, self.environ, self._folder)

    def sent(self, operation: str) -> int:
        return len(self.ion.journal(operation))


@pytest.fixture
def products() -> int:
    """How many there are beside the few that the simulator always has; a test may want others."""
    return 250


@pytest.fixture(params=["live", "seed"])
def shell(request: pytest.FixtureRequest, products: int, tmp_path: Path) -> Iterator[Shell]:
    dialect = str(request.param)
    ion = SimulatedIon(tmp_path, dialect=dialect, customers=7, products=products, calls_per_minute=6_000)
    yield Shell(dialect, ion, tmp_path)
    ion.process.stop()
