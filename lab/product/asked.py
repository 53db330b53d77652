"""A request to a handler of syncs, with what its site knows."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lab.machine.web import Page, Request
from lab.product.database import Database, Entry, User
from lab.product.service import EktronService

__all__ = ["Asked", "Handler"]

_NUMBER = re.compile("[0-9]{1,9}")
#: How a server writes a time (ektron-facts 4.1), by the culture in web.config.
_CULTURES = {
    "de-DE": "{0:%d.%m.%Y %H:%M:%S}",
    "en-GB": "{0:%d/%m/%Y %H:%M:%S}",
    "en-US": "{0.month}/{0.day}/{0.year} {1}:{0:%M:%S} {0:%p}",
    "fr-FR": "{0:%d/%m/%Y %H:%M:%S}",
    "sv-SE": "{0:%Y-%m-%d %H:%M:%S}",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to a handler, and what the site knows.

    Attributes:
        user: who is logged in. service: of the machine. problem: why the site cannot talk to it.
        load_balanced: the flag that the site has loaded. culture: of web.config.
    """

    request: Request
    user: User | None
    database: Database
    service: EktronService
    site_path: str
    problem: str = ""
    load_balanced: bool = False
    culture: str = "en-US"

    @property
    def action(self) -> str:
        """The action, in lower case."""
        return self.request.fields.get("action", "").strip().lower()

    @property
    def number(self) -> int:
        """The id; -1 if it is not a number."""
        text = self.request.fields.get("id", "").strip()
        return int(text) if _NUMBER.fullmatch(text) else -1

    def may(self, *roles: str) -> bool:
        """Whether the user has one of the roles."""
        return self.user is not None and bool(self.user.roles & set(roles))

    def time(self, entry: Entry) -> str:
        """The time of an entry as text."""
        when = datetime.fromtimestamp(entry.when // 1_000_000_000, UTC)
        return _CULTURES.get(self.culture, _CULTURES["en-US"]).format(when, (when.hour - 1) % 12 + 1)


Handler = Callable[[Asked], Awaitable[Page]]
