"""The digest of licences: a page to send on, as Markdown or as HTML that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import jinja2

from syncd.admin import views
from syncd.engine.licences import Change

_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_PAGES.filters["cell"] = lambda value: str("" if value is None else value).replace("|", "\\|").replace("\n", " ")


def markdown_of(change: Change) -> str:
    return _PAGES.get_template("digest.md").render(licences=views.Licences.of(change))


def html_of(change: Change) -> str:
    return _PAGES.get_template("digest.html").render(licences=views.Licences.of(change))
