"""The login page of a site: finds its form, and fills it in (ektron-facts 4.2).

ASP.NET puts hidden fields such as `__VIEWSTATE` into the form and expects them in the answer, and it may put the names
of containers before a field's name (`ctl00$username`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from tasks.ektron.refusals import Refused

__all__ = ["LOGIN_PAGE", "LoginForm", "form_of", "has_password_field", "leads_to_login"]

LOGIN_PAGE = "WorkArea/login.aspx"
_USER, _DOMAIN = "username", "domainname"
_MANY = 500  #: fields of a form


@dataclass(frozen=True, slots=True)
class LoginForm:
    """The form of a login page.

    Attributes:
        action: where it is sent, as the page says; empty for the page itself.
        hidden: the fields to send unchanged.
        user: name of the field of the user.
        password: name of the field of the password.
        domain: name of the field of the domain; empty if there is none.
    """

    action: str
    hidden: Mapping[str, str] = field(repr=False)
    user: str
    password: str
    domain: str = ""

    def filled(self, user: str, password: str, domain: str = "") -> dict[str, str]:
        """What to send. Contains the password."""
        more = {self.domain: domain} if self.domain else {}
        return {**self.hidden, self.user: user, self.password: password, **more}


def form_of(page: str) -> LoginForm:
    """The form of a login page.

    Raises:
        Refused: the page has no form with a field for a user and one for a password.
    """
    for form in _forms(page):
        user, password = form.named(_USER), form.of_type("password")
        if user and password:
            return LoginForm(
                action=form.action, hidden=form.sent, user=user, password=password, domain=form.named(_DOMAIN)
            )
    raise Refused(
        "the login page has no form with a user name and a password",
        remedy="open the login page in a browser: does the site use another way to log in?",
    )


def has_password_field(page: str) -> bool:
    """Whether a page asks for a password: the login page came again."""
    return any(form.of_type("password") for form in _forms(page))


def leads_to_login(location: str) -> bool:
    """Whether a redirect leads to a login page: the session has ended, or never began."""
    path = location.partition("?")[0].casefold()
    return path.rpartition("/")[2] in {"login.aspx", "cmslogin.aspx"}


@dataclass
class _Form:
    action: str = ""
    inputs: list[tuple[str, str, str]] = field(default_factory=list)  #: type, name, value

    def named(self, name: str) -> str:
        """The full name of the input that is called so, with or without the names of its containers."""
        for kind, full, _ in self.inputs:
            plain = full.casefold().replace(":", "$").rpartition("$")[2]
            if kind != "hidden" and plain == name:
                return full
        return ""

    def of_type(self, kind: str) -> str:
        """The name of the first input of that type."""
        return next((name for found, name, _ in self.inputs if found == kind), "")

    @property
    def sent(self) -> dict[str, str]:
        """The hidden fields, and the first button: ASP.NET decides by it which event to raise."""
        buttons = [(name, value) for kind, name, value in self.inputs if kind in {"submit", "image"}]
        hidden = {name: value for kind, name, value in self.inputs if kind == "hidden"}
        return hidden | dict(buttons[:1])


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[_Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects forms and their inputs; a tag outside a form does not count."""
        values = {name.casefold(): value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(_Form(values.get("action", "")))
        elif tag == "input" and self.forms and values.get("name") and len(self.forms[-1].inputs) < _MANY:
            kind = values.get("type", "text").casefold()
            self.forms[-1].inputs.append((kind, values["name"], values.get("value", "")))


def _forms(page: str) -> list[_Form]:
    parser = _Forms()
    parser.feed(page)
    return parser.forms
