"""The login page of a site: forms authentication with view state and a cookie (ektron-facts 4.2).

The page posts to itself. A form without the view state of a page of this site is an error, as ASP.NET answers. The
ticket is in a cookie; it ends after its time, or when the site forgets its logins.
"""

import hmac
import secrets
import time
from dataclasses import dataclass, field
from html import escape

from lab.machine.web import Page, Request
from lab.product.database import Database, User

__all__ = ["COOKIE", "LOGIN_SECONDS", "Logins"]

COOKIE = ".ASPXAUTH"
LOGIN_SECONDS = 480 * 60.0  #: as web.config has it
_PAGES = 200  #: view states that a site still knows
_TITLE = "Ektron CMS Login"


@dataclass
class Logins:
    """The logins of one site.

    Attributes:
        seconds: the life of a ticket.
    """

    seconds: float = LOGIN_SECONDS
    _tickets: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    _states: dict[str, str] = field(default_factory=dict, repr=False)

    def forget(self) -> None:
        """Ends all logins, as an initial sync does that replaces the users (ektron-facts 6, row 47)."""
        self._tickets.clear()

    def user(self, request: Request, database: Database) -> User | None:
        """Who is logged in."""
        name, until = self._tickets.get(request.cookies.get(COOKIE, ""), ("", 0.0))
        return database.users.get(name) if time.monotonic() < until else None

    def page(self, request: Request, database: Database) -> Page:
        """Shows the page, or takes what was typed into it."""
        if request.method != "POST":
            return self._shown()
        state = request.fields.get("__viewstate", "")
        if state not in self._states or self._states[state] != request.fields.get("__eventvalidation"):
            return Page(500, b"<html><title>Validation of viewstate MAC failed.</title></html>")
        user = database.users.get(request.fields.get("username", "").strip().lower())
        given = request.fields.get("password", "").encode()
        if user is None or not hmac.compare_digest(user.password.encode(), given):
            return self._shown("The user name or password is not correct.")
        return self._logged_in(user)

    def _logged_in(self, user: User) -> Page:
        ticket = secrets.token_hex(32).upper()
        self._tickets[ticket] = (user.name.lower(), time.monotonic() + self.seconds)
        cookies = (
            f"{COOKIE}={ticket}; path=/; HttpOnly",
            f"ecm=user_id={len(user.name)}&amp;site_id=/; path=/",
            f"EktGUID={secrets.token_hex(16)}; path=/",
        )
        headers = (("Location", "/WorkArea/workarea.aspx"), *(("Set-Cookie", cookie) for cookie in cookies))
        return Page(302, b"<html><title>Object moved</title></html>", headers=headers)

    def _shown(self, said: str = "") -> Page:
        state, validation = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        self._states[state] = validation
        while len(self._states) > _PAGES:
            del self._states[next(iter(self._states))]
        return Page(200, _form(state, validation, said).encode())


def _form(state: str, validation: str, said: str) -> str:
    return f"""<!DOCTYPE html>
<html><head><title>{_TITLE}</title></head><body>
<form name="LoginRequest" method="post" action="login.aspx" id="LoginRequest">
<div><input type="hidden" name="__VIEWSTATE" id="__VIEWSTATE" value="{state}" /></div>
<div><input type="hidden" name="__EVENTVALIDATION" id="__EVENTVALIDATION" value="{validation}" /></div>
<span class="error">{escape(said)}</span>
<input name="username" type="text" id="username" /><input name="password" type="password" id="password" />
<select name="domainname" id="domainname"><option value=""></option></select>
<input type="submit" name="loginBtn" value="Login" id="loginBtn" />
</form></body></html>
"""
