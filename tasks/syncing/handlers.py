"""The sync handlers of one site, as a user of the site who logs in when that is needed (ektron-facts 4).

A session of the site can end during a sync: the first sync replaces the users of its database (row 47). So every
question that is refused logs in again, a few times at most. A refused user is tried on no other node of the run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urljoin, urlsplit

from tasks.ektron.refusals import Refused
from tasks.ektron.sync.answers import (
    BalanceStart,
    BalanceStatus,
    InProgress,
    NotAuthorised,
    Relationship,
    Started,
    SyncStatus,
    balance_start_of,
    balance_status_of,
    in_progress_of,
    relationships_of,
    started_of,
    status_of,
)
from tasks.ektron.sync.login import LOGIN_PAGE, form_of, has_password_field, leads_to_login
from tasks.step import Work
from tasks.sync_settings import SiteLogin
from tasks.syncing.pages import require_answer, shown
from tasks.syncing.place import SitePlace
from workers.errors import NodeRefused
from workers.records import DocumentKind
from workers.sites.port import Answer, Held, Site
from workers.texts import cleaned

__all__ = ["SyncSite", "site_of"]

ASK = 30.0  #: seconds for an answer
LONGEST = 6000.0  #: seconds that the product allows its own handler (ektron-facts 4.1)
_LOGINS = 4  #: by one step
_REFUSED = "refused"  #: name of the document that says which node has refused the site user
_SYNC, _STATUS = "SyncHandler.ashx", "SyncStatusHandler.ashx"
_BALANCE, _BALANCE_STATUS = "LoadBalancingHandler.ashx", "LoadBalancingStatusHandler.ashx"
_ALL_PROFILES = {
    "folderId": "0",
    "contentId": "0",
    "folderType": "0",
    "isContentSync": "false",
    "languageid": "1033",
    "includemultisiteprofiles": "true",
}
_CHECK_USER = "check the user of site_login"
T = TypeVar("T")


def site_of(work: Work, place: SitePlace) -> "SyncSite":
    """The handlers of the site of this node. No request is made yet."""
    return SyncSite(work, place, work.open_site(place.address), work.cluster.site_login)


@dataclass
class SyncSite:
    """The handlers of one site.

    Attributes:
        logged_in: whether the site user was accepted.
    """

    work: Work
    place: SitePlace
    site: Site
    login: SiteLogin | None
    logged_in: bool = False
    logins: int = 0

    def relationships(self) -> tuple[Relationship, ...]:
        """Relationships and profiles; needs a role. For the errors of all questions see `_asked`."""
        return self._authorised(relationships_of, _SYNC, action="GetProfiles", **_ALL_PROFILES)

    def in_progress(self) -> InProgress:
        """Whether a sync is running; needs a role."""
        return self._authorised(in_progress_of, _SYNC, action="IsSyncInProgress")

    def status(self, profile: str) -> SyncStatus:
        """The status of the last sync of a profile; needs no role."""
        return self._authorised(status_of, _STATUS, action="Status", id=profile)

    def balance_status(self) -> BalanceStatus:
        """The status of the last load-balance refresh; needs no role."""
        return self._authorised(balance_status_of, _BALANCE_STATUS, action="status")

    def start(self, profile: str) -> "StartedRequest[Started]":
        """Requests a sync, once. Logs in before, because a request that was refused would have to be repeated."""
        held = self._held(_SYNC, action="Sync", id=profile)
        return StartedRequest(held, started_of, self)

    def start_balance(self) -> "StartedRequest[BalanceStart]":
        """Requests a load-balance refresh, once."""
        return StartedRequest(self._held(_BALANCE, action="loadbalance"), balance_start_of, self)

    def log_in(self) -> None:
        """Logs in as the user of `site_login`.

        Raises:
            NodeRefused: the cluster file names no user, the site refused it here or on another node, or the password
                would be sent over http.
        """
        login = self._usable_login()
        page = self.site.get(self.place.page(LOGIN_PAGE), deadline=ASK)
        require_answer(self.name, self.place, "its login page", page)
        try:
            form = form_of(page.text)
        except Refused as refusal:
            raise NodeRefused(f"{self.name}: {refusal}", remedy=refusal.remedy) from None
        password = self.work.reveal(login.secret).reveal()
        self.logins += 1
        answer = self.site.post(
            self._target(form.action), form.filled(login.user, password, login.domain), deadline=ASK
        )
        if not answer.location or self._leads_to_https(answer.location):
            require_answer(self.name, self.place, "the login", answer)
        if leads_to_login(answer.location) or (not answer.location and has_password_field(answer.text)):
            self.work.documents.keep(DocumentKind.SYNC, _REFUSED, self.work.node.name)
            raise NodeRefused(
                f"{self.name} refused the user {cleaned(login.user, 60)}",
                remedy="check site_login: user, domain and the secret that it names; no other node is tried with it",
            )
        self.logged_in = True

    @property
    def name(self) -> str:
        """For messages."""
        return f"the site of {self.work.node.name}"

    def _usable_login(self) -> SiteLogin:
        login = self.login
        if login is None:
            raise NodeRefused(
                f"{self.name}: a site user is needed", remedy="set site_login (user and secret) in the cluster file"
            )
        if self.place.address.scheme == "http" and not login.over_http:
            raise NodeRefused(
                f"{self.name} answers over http, where anyone on the way could read the password",
                remedy="use https, or set site_login.over_http: true",
            )
        if refused := self.work.documents.kept(DocumentKind.SYNC, _REFUSED):
            raise NodeRefused(
                f"{self.name}: the site user is not tried, because {refused} refused it", remedy="check site_login"
            )
        return login

    def _target(self, action: str) -> str:
        """Where the form is sent: only to the site itself."""
        base = f"http://{self.place.address.name}{self.place.page(LOGIN_PAGE)}"
        parts = urlsplit(urljoin(base, action or base))
        if parts.netloc.casefold() != self.place.address.name.casefold():
            raise NodeRefused(
                f"{self.name}: its login page sends the password to {cleaned(parts.netloc, 100)}, another server",
                remedy="check the login page; set sync.url to the name of the site",
            )
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    def _leads_to_https(self, location: str) -> bool:
        """Whether a login page is only to be used over https: then the user was not refused."""
        return leads_to_login(location) and urlsplit(location).scheme == "https" != self.place.address.scheme

    def _authorised(self, read: Callable[[bytes], T], handler: str, **values: str) -> T:
        """The answer; logs in once if it is refused."""
        try:
            return self._understood(read, self._asked(handler, **values))
        except NotAuthorised as refusal:
            if self.login is None or self.logins >= _LOGINS:
                raise NodeRefused(f"{self.name}: {refusal}", remedy=refusal.remedy) from None
        self.log_in()
        try:
            return self._understood(read, self._asked(handler, **values))
        except NotAuthorised as refusal:
            raise NodeRefused(f"{self.name}: {handler}: {refusal}", remedy=refusal.remedy) from None

    def _understood(self, read: Callable[[bytes], T], body: bytes) -> T:
        try:
            return read(body)
        except NotAuthorised:
            raise
        except Refused as refusal:
            raise NodeRefused(
                f"{self.name}: {cleaned(str(refusal))}{shown(body)}",
                remedy="is this the site of the product, and of this edition?",
            ) from None

    def _asked(self, handler: str, **values: str) -> bytes:
        """The body of an answer.

        Raises:
            NotAuthorised: the site redirects to its login page, or shows it.
            NodeError: as `Site.get`, or the site answers with another status.
        """
        return self._body(handler, self.site.get(self.place.handler(handler), values, deadline=ASK))

    def _body(self, handler: str, answer: Answer) -> bytes:
        if leads_to_login(answer.location):
            raise NotAuthorised("the site redirects to its login page", remedy=_CHECK_USER)
        require_answer(self.name, self.place, handler, answer)
        if answer.body.lstrip()[:1] == b"<" and has_password_field(answer.text):
            raise NotAuthorised("the site shows its login page instead", remedy=_CHECK_USER)
        return answer.body

    def read_held(self, read: Callable[[bytes], T], answer: Answer) -> T:
        """What an answer that came late says. Raises as `_asked`."""
        return self._understood(read, self._body("the start", answer))

    def _held(self, handler: str, **values: str) -> Held:
        return self.site.hold(self.place.handler(handler), values, deadline=LONGEST)


@dataclass(frozen=True)
class StartedRequest(Generic[T]):
    """A request that was sent once, and whose answer may come after minutes."""

    held: Held
    read: Callable[[bytes], T]
    site: SyncSite

    def answer(self) -> T | None:
        """The answer; None while there is none.

        Raises:
            NodeError: the request was refused, or failed.
        """
        answer = self.held.answer()
        if answer is None:
            return None
        try:
            return self.site.read_held(self.read, answer)
        except NotAuthorised as refusal:
            raise NodeRefused(f"{self.site.name}: the start: {refusal}", remedy=refusal.remedy) from None
