"""Long lists in pages: the runs of a store, the newest first, and a cursor that says where the next page begins."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from pipelines.engine import Engine
from workers.errors import InputRefused, RecordRefused, RunUnknown
from workers.records import RunRecord

__all__ = ["PAGE", "Page", "cursor_of", "page_of_runs", "place_of"]

PAGE = 100  #: of a list at most
SEARCHED = 2000  #: runs that are read for one page
KNOWN = 20_000  #: runs whose ids are read
_TIME = len("20261128-060121")
_PLACE = re.compile(r"[A-Za-z0-9._ -]{1,150}", re.ASCII)


class Page(NamedTuple):
    """Some runs, and the cursor of the next page; empty when there are no more."""

    runs: tuple[RunRecord, ...]
    after: str = ""


def page_of_runs(
    engine: Engine,
    fits: Callable[[RunRecord], bool],
    after: str,
    limit: int,
    may_fit: Callable[[str], bool] = lambda _: True,
) -> Page:
    """The newest runs that fit, after a cursor.

    A page may be short, even empty, although more follow: then so many runs were searched in vain.

    Args:
        engine: where.
        fits: whether a run is listed.
        after: the cursor of the page before; empty for the first page.
        limit: runs of a page, at most `PAGE`.
        may_fit: whether a run may be listed, by its id; the others are not read.

    Raises:
        InputRefused: `after` is not a cursor of this list.
    """
    last = ""
    found: list[RunRecord] = []
    searched = 0
    for name in filter(may_fit, _names_after(engine, place_of(after) if after else "")):
        if len(found) == min(limit, PAGE) or searched == SEARCHED:
            return Page(tuple(found), cursor_of(_place(last)))
        searched, last = searched + 1, name
        with suppress(RunUnknown, RecordRefused):  # forgotten meanwhile, or of another installation
            record = engine.store.run(name)
            found += [record] if fits(record) else []
    return Page(tuple(found))


def _place(run: str) -> str:
    """The place of a run in the list. It may be one that the caller may not see: its id has the name of its cluster."""
    return f"{run[:_TIME]} {hashlib.sha256(run.encode()).hexdigest()[:16]}"


def _names_after(engine: Engine, place: str) -> Iterator[str]:
    """The ids after that place; if its run was forgotten, those that sort before it: ids begin with their time."""
    names = engine.store.names(KNOWN)
    if not place:
        return iter(names)
    moment = place.partition(" ")[0]
    for number, name in enumerate(names, 1):
        if name.startswith(moment) and _place(name) == place:
            return islice(names, number, None)
    return (name for name in names if name < moment)


def cursor_of(place: str) -> str:
    """An opaque text for a place in a list."""
    return base64.urlsafe_b64encode(f"1 {place}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> str:
    """The place that a cursor stands for.

    Raises:
        InputRefused: it is none.
    """
    with suppress(binascii.Error, UnicodeDecodeError, ValueError):
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        version, _, place = text.partition(" ")
        if version == "1" and _PLACE.fullmatch(place) and cursor_of(place) == cursor:
            return place
    raise InputRefused("this is not a cursor of this list", remedy="take it from `next` of the page before")
