"""Templates into pages: every text is escaped, every name in an address is quoted, nothing is loaded from elsewhere."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report.layout import duration
from pipelines.report.styles import IN_PROGRESS, VERDICT_STYLES, VerdictStyle
from pipelines.web.pages.grid import MANY, MARKS
from tasks.ektron.wording import ago as in_words
from workers.records import Verdict, now

__all__ = ["ago", "part", "rendered", "static_file", "style_of"]

_TYPES = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
_PARTS: Mapping[str, Collection[str]] = {
    "clusters_parts.html": {"clusters"},
    "cluster_parts.html": {"about", "state", "runs"},
    "plan_parts.html": {"page"},
    "runs_parts.html": {"runs"},
    "run_parts.html": {"head", "panel", "actions", "map", "rows"},
}
_DAY = 86_400


def rendered(template: str, **values: Any) -> str:  # noqa: ANN401 - what templates show
    """A page, or a part of one.

    Args:
        template: its file.
        values: what it shows.
    """
    return _environment().get_template(template).render(values)


def part(template: str, name: str, values: Mapping[str, Any]) -> str | None:
    """One part of a page, by the name of its macro: the page includes it, and streams send it when it changes.

    None if the page has no such part.
    """
    if name not in _PARTS.get(template, ()):
        return None
    module = _environment().get_template(template).make_module(dict(values))
    return str(getattr(module, name)())


def static_file(name: str) -> tuple[bytes, str] | None:
    """The content and the media type of a file that pages load; None if there is no such file."""
    return (_content(name), _TYPES[name]) if name in _TYPES else None


@cache
def _content(name: str) -> bytes:
    return files("pipelines.web.pages").joinpath("static", name).read_bytes()


@cache
def _address(name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep it."""
    return f"/static/{name}?{hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": ago,
        "breaks": _breaks,
        "clock": _clock,
        "day": _day,
        "duration": duration,
        "name": lambda text: quote(text, safe=""),
        "thousands": lambda number: f"{number:,}",
        "left": _left,
    }
    environment.globals |= {
        "MANY": MANY,
        "MARKS": MARKS,
        "address": _address,
        "style_of": style_of,
        "now": now,
    }
    return environment


def style_of(verdict: Verdict | str | None) -> VerdictStyle:
    """How a verdict looks; changes that are still to be made are neither good nor bad."""
    if not verdict:
        return IN_PROGRESS
    style = VERDICT_STYLES[Verdict(verdict)]
    return replace(style, kind=IN_PROGRESS.kind) if verdict == Verdict.CHANGES_PENDING else style


def _breaks(text: str) -> Markup:
    r"""The text, escaped, with a place to break lines after each `\`: long Windows paths fit into narrow columns."""
    return Markup("\\<wbr>").join(text.split("\\"))


def _clock(moment: datetime) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), f"{moment:%Y-%m-%d %H:%M}")


def _day(moment: datetime) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), f"{moment:%Y-%m-%d}")


def ago(moment: datetime, at: datetime | None = None) -> Markup:
    """How long ago that was: `3 min ago`; the exact time as its title."""
    text = in_words(((at or now()) - moment).total_seconds())
    exact = f"{moment:%Y-%m-%d %H:%M:%S UTC}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), exact, text)


def _left(moment: datetime) -> str:
    """How many days are left until then: `in 91 days`, or `expired`."""
    days = int((moment - now()).total_seconds() // _DAY)
    return f"in {days:,} days" if days >= 0 else "expired"
