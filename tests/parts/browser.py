"""A real Chromium, by Debian's package, driven over Playwright."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.parts.debian import INSTALL, installed

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoBrowser(Exception):
    pass


def chromium() -> str:
    found = installed("chromium", "chromium")
    if found is None:
        raise NoBrowser(f"there is no chromium: `{INSTALL} chromium`")
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        yield started
        started.close()


def screenshots() -> Path:
    """Where pictures of the pages are left: ``SYNCD_SCREENSHOTS``, or beside the other things that tests leave."""
    folder = Path(os.environ.get("SYNCD_SCREENSHOTS", "artefacts/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
