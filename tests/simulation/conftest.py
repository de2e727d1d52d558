from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.sim.time import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """On it hours pass in a moment."""
    loop = VirtualLoop()
    yield loop
    loop.close()
