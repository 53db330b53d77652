"""Facts of the files that the product generates (ektron-facts 2.4)."""

from pydantic import AwareDatetime

from tasks.ektron.facts.values import Fact

__all__ = ["GeneratedFacts", "GeneratedFile", "GeneratedSite"]


_OFF = {"0", "false", "no"}  #: of the attribute `active`


class GeneratedSite(Fact):
    """One site in a file of the service. Names of attributes are read in any case; an absent attribute is None."""

    name: str | None = None
    site_path: str | None = None
    physical_path: str | None = None
    active: str | None = None
    version: str | None = None
    connection_digest: str | None = None  #: comparable with the digest of web.config

    @property
    def is_active(self) -> bool:
        """Whether the service serves the site. It is when nothing says otherwise."""
        return (self.active or "").strip().casefold() not in _OFF


class GeneratedFile(Fact):
    """sitedb.config or data.config, which the service makes from web.config (ektron-facts 2.4)."""

    path: str
    exists: bool = False
    problem: str = ""
    sites: tuple[GeneratedSite, ...] = ()


class GeneratedFacts(Fact):
    """The files that the product generates. They are read, never edited (ektron-facts 2.4)."""

    sitedb: GeneratedFile | None = None
    data: GeneratedFile | None = None
    batch_size: str | None = None  #: from DbSync.config (ektron-facts 6, row 22)
    status_files: int = 0  #: number of files below EktSyncStatus in the site root
    oldest_status: AwareDatetime | None = None
