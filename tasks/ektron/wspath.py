"""WSPath of web.config: which host it names, and where to ask whether the site answers there (ektron-facts 2.3, 10).

The product uses only scheme and host of it. The page that it names, `ServerControlWS.asmx`, is removed in 9.2 and by
security updates of earlier releases, while the value still names it.
"""

from urllib.parse import urlsplit

__all__ = ["host_of", "page_of_no_site", "places_to_ask", "without_logon"]

_PAGE = "Workarea/webservices/ContentWS.asmx"  #: every release has it
_SCHEMES = ("http", "https")


def host_of(ws_path: str | None) -> str:
    """The host that WSPath names, in lower case; empty when it is no absolute http or https address."""
    try:
        parts = urlsplit((ws_path or "").strip())
        usable = parts.scheme in _SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:
        return ""
    return (parts.hostname or "") if usable else ""


def places_to_ask(ws_path: str | None, site_path: str | None, *, offloaded: bool = False) -> tuple[str, ...]:
    """Addresses at which the site can answer, the one that every release has first; none when WSPath names no host.

    Args:
        ws_path: as in web.config.
        site_path: ek_sitePath, the virtual path of the site.
        offloaded: whether TLS ends at the balancer: then the server itself answers only over http.
    """
    if not host_of(ws_path):
        return ()
    parts = urlsplit(without_logon((ws_path or "").strip()))
    folder = (site_path or "").strip().strip("/")
    page = f"/{folder}/{_PAGE}" if folder else f"/{_PAGE}"
    plain = parts._replace(query="", fragment="")
    asked = [plain._replace(path=page), plain]
    if offloaded:
        other = "http" if parts.scheme == "https" else "https"
        asked.append(asked[0]._replace(scheme=other, netloc=_bracketed(parts.hostname or "")))
    return tuple(dict.fromkeys(place.geturl() for place in asked))


def page_of_no_site(place: str) -> str:
    """Beside a page of the site, the address of one that no site has: who answers to it answers to anything."""
    return f"{place.rpartition('/')[0]}/esync-no-page-has-this-name.asmx"


def without_logon(ws_path: str) -> str:
    """The address without user and password, which must not be stored or shown."""
    scheme, found, rest = ws_path.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{found}{host.rpartition('@')[2]}{slash}{path}" if found else ws_path


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
