"""What a person has to do about search after a first load-balanced sync that failed (procedure, last note; row 37)."""

from collections.abc import Sequence

from tasks.ektron.editions import edition_of
from tasks.ektron.wording import named

__all__ = ["search_config"]


def search_config(edition: str, site: str, servers: Sequence[str]) -> str:
    """Which tool to open on which servers, and what to choose there.

    Args:
        edition: of the product; up to 8.0 search has catalogs, later a search server (ektron-facts 1.2, 7).
        site: the folder of the site.
        servers: the load-balanced servers.
    """
    version = edition.replace(".", "")[:2]
    done = "rebuild its catalogs" if edition_of(edition).service == "3.0" else "register it with the search server"
    return (
        f"if this was the first load-balanced sync, search does not work on {named(servers)} until a person repairs "
        f"it: there open Start > All programs > Ektron > CMS400 v{version} > Utilities > Search Config, choose the "
        f"site {site}, and {done}; then prove again"
    )
