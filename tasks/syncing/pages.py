"""What a site answers where a handler was asked: redirects, HTTP statuses, pages for people, and what each means."""

from urllib.parse import urlsplit

from tasks.syncing.place import SitePlace
from workers.errors import NodeRefused
from workers.sites.port import Answer
from workers.texts import cleaned, page_title

__all__ = ["require_answer", "shown"]

_OK = 200
_GATEWAY = "a gateway on the way gets no answer of it"
_DIRECTLY = "let this worker reach the server itself: correct `host` and `site_port` in the cluster file, or the proxy"
_LOOK = "open the page on the server itself"
#: HTTP status -> what it means, what to do.
_MEANINGS = {
    401: ("it requires a logon of Windows", "allow anonymous access to the WorkArea in IIS; site_login cannot help"),
    403: (
        "it refuses this worker",
        "is this worker's address allowed in ektron.cms.security.whitelist.config, and in the IP restrictions of IIS?",
    ),
    404: (
        "it has no such page",
        "is the site below another path (ek_sitePath in web.config), at another name (sync.url) or port (site_port)?",
    ),
    500: ("it has an error", f"see the event log Application there; {_LOOK}"),
    502: (_GATEWAY, _DIRECTLY),
    503: ("it is not available", "start its application pool, or wait until it has started; check the site in IIS"),
    504: (_GATEWAY, _DIRECTLY),
}
_SHOWN = 100  #: characters of a foreign text


def require_answer(name: str, place: SitePlace, what: str, answer: Answer) -> None:
    """Passes if the site has answered with a page of its own.

    Args:
        name: of the site, for people.
        place: where it was asked.
        what: the page that it was asked for.
        answer: what came.

    Raises:
        NodeRefused: it redirects, or has another status than 200.
    """
    if answer.location:
        raise _redirected(name, place, what, answer.location)
    if answer.status != _OK:
        means, remedy = _MEANINGS.get(answer.status, ("", _LOOK))
        why = f": {means}" if means else ""
        raise NodeRefused(f"{name} answers {what} with status {answer.status}{why}", remedy=remedy)


def _redirected(name: str, place: SitePlace, what: str, location: str) -> NodeRefused:
    target = urlsplit(location)
    where = cleaned(target.netloc or target.path, _SHOWN)
    if target.scheme == "https" and place.address.scheme == "http":
        host = cleaned(target.hostname or place.address.name, _SHOWN)
        return NodeRefused(
            f"{name} redirects {what} to https, at {where}; it was not followed",
            remedy=f"set sync.url to https://{host}; for another port than 443 on the server, set site_port, too",
        )
    return NodeRefused(
        f"{name} redirects {what} to {where or 'another page'}; it was not followed",
        remedy="a rule for redirects is in the way, or sync.url has the wrong scheme or name",
    )


def shown(body: bytes) -> str:
    """The title of a page, or the beginning of another text, as part of a sentence; empty if nothing came."""
    text = body.decode("utf-8", "replace")
    if words := " ".join(page_title(text).split()):
        return f"; it is the page {cleaned(words, _SHOWN)!r}"
    words = " ".join(text[: 4 * _SHOWN].split())
    return f"; it begins with {cleaned(words, _SHOWN)!r}" if words else ""
