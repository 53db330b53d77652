"""Syncs between simulated servers: judged by their disks, and by the answers of their handlers."""

import asyncio

import pytest

from tests.unit.lab.product.sites import Servers, servers

ALL = {"S1", "S2", "P1", "P2"}
FILE = "news.aspx"


def run(site: Servers, start: str, profile: str) -> dict[str, object]:
    """One sync from beginning to end."""
    return asyncio.run(site.synced(start, profile))


@pytest.mark.parametrize("edition", ["8.0", "9.1"])
def test_an_upload_from_the_changed_server_reaches_all(edition: str) -> None:
    """The procedure: started on S1, where the file was changed, it is on S2, P1 and P2, byte for byte."""
    site = servers(edition)
    site.put("S1", FILE, b"new")
    answer = run(site, "S1", "upload")
    assert (True, [], ALL) == (answer["Success"], answer["Messages"], site.having(FILE, b"new"))


@pytest.mark.parametrize(
    ("syncs", "reached"),
    [
        ([], {"S1"}),
        ([("S1", "bidirectional")], ALL),
        ([("S2", "bidirectional")], ALL),
        ([("S2", "download")], {"S1", "S2"}),
        ([("S2", "download"), ("S2", "upload")], ALL),
        ([("S2", "download"), ("S1", "upload")], ALL),
        ([("S1", "download")], {"S1"}),
        ([("S2", "upload")], {"S1"}),
    ],
)
@pytest.mark.parametrize("what", ["added", "changed", "removed"])
def test_a_change_goes_where_the_procedure_says(what: str, syncs: list[tuple[str, str]], reached: set[str]) -> None:
    """A file added, changed or removed on S1, and then syncs (ektron-facts 5)."""
    site = servers()
    before, after = b"old", None if what == "removed" else b"new"
    if what != "added":
        site.put("S1", FILE, before)
        run(site, "S1", "upload")
        assert ALL == site.having(FILE, before)
    site.put("S1", FILE, after)
    for start, profile in syncs:
        run(site, start, profile)
    has = ALL - site.having(FILE, before) if after is None else site.having(FILE, after)
    assert reached == has
