"""How a sync is started, watched and proven, as a cluster file says it: `site_login` and `sync`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.connection import Account, CaFile, Part, SecretReference, text
from tasks.policy import Seconds

__all__ = ["Canary", "SiteLogin", "SyncSettings", "SyncStart"]

SyncStart = Literal["http", "gate", "off"]
Url = Annotated[
    str,
    text(
        r"^https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/?$",
        "the address of the site without a path, such as https://www.example.org",
        longest=300,
    ),
]
Folder = Annotated[
    str,
    text(
        r"^[A-Za-z0-9_-][A-Za-z0-9_ .-]*(\\[A-Za-z0-9_-][A-Za-z0-9_ .-]*)*$",
        r"a folder below the site root, such as uploadedfiles or templates\pages",
        longest=200,
    ),
]
Extension = Annotated[str, text(r"^[A-Za-z0-9]{1,8}$", "1 to 8 letters or digits, without a dot")]


class SiteLogin(Part):
    """The user of the site who asks for profiles and starts syncs (ektron-facts 4.2). The secret is a reference.

    Attributes:
        user: with the role Synchronization Admin or Synchronization User; an administrator for load balancing.
        domain: of that user; empty for a user of the product itself.
        over_http: whether the password may be sent over http, where anyone on the way can read it.
    """

    user: Account
    secret: SecretReference
    domain: Annotated[str, Field(max_length=256, description="the domain of that user, or empty")] = ""
    over_http: bool = False

    @field_validator("secret")
    @classmethod
    def _readable(cls, secret: str) -> str:
        if secret.startswith(("keytab:", "tickets:")):
            raise ValueError("the password of a site is env:NAME or file:PATH")
        return secret


class Canary(Part):
    """The file that proves a sync.

    Attributes:
        folder: below the site root; it must exist, and a sync must take files from it.
        extension: some profiles take only files of certain extensions.
    """

    folder: Folder = "uploadedfiles"
    extension: Extension = "txt"


class SyncSettings(Part):
    """How a sync of this cluster is started and watched.

    Attributes:
        start: `http` sends the request of the product's own page, which is known from code only (ektron-facts 4); with
            `gate` a person starts the sync and the run watches it; `off` starts none.
        profile: the name of the profile that is started, unless the command names another one.
        url: the site as browsers name it. Each node is asked at its own `host` with this name. By default scheme and
            name are those of WSPath in web.config.
        ca_file: authorities of the site's certificate; those of the system by default.
        canary: the file that `esync sync prove` sends.
        every: seconds between two looks.
        begins: seconds until a sync must have begun; for a person at a gate, too.
        lasts: seconds that a sync may last.
        arrives: seconds for a file to arrive after the sync has ended: servers of a pool receive files later.
    """

    start: SyncStart = "off"
    profile: Annotated[str, Field(max_length=200, description="the name of a sync profile")] = ""
    url: Url | None = None
    ca_file: CaFile | None = None
    canary: Canary = Canary()
    every: Annotated[float, Field(ge=0.05, le=60, description="0.05 to 60 seconds")] = 5
    begins: Seconds = 900
    lasts: Seconds = 3600
    arrives: Seconds = 120

    @model_validator(mode="after")
    def _in_time(self) -> "SyncSettings":
        if self.every > self.arrives:
            raise ValueError(f"every ({self.every:g} s) is longer than arrives ({self.arrives:g} s)")
        return self
