"""The site of a node over the network. A connection per request: nothing is repeated that may have had an effect."""

import ssl
import threading
from collections.abc import Mapping
from urllib.parse import urlencode

import httpcore

from workers.errors import DeadlineExceeded, NodeError, NodeRefused
from workers.sites.bounded import BoundedBackend
from workers.sites.cookies import Cookies
from workers.sites.port import LARGEST, Address, Answer, too_much

__all__ = ["HttpSite", "open_site"]

_FORM = "application/x-www-form-urlencoded"


def open_site(address: Address) -> "HttpSite":
    """The site at that address. No request is made yet.

    Raises:
        NodeRefused: the file of authorities cannot be used.
    """
    return HttpSite(address)


class HttpSite:
    """See `workers.sites.port.Site`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._cookies = Cookies(secure=address.scheme == "https")
        self._trust = _trust(address) if address.scheme == "https" else None

    def get(self, path: str, query: Mapping[str, str] | None = None, *, deadline: float) -> Answer:
        """As the port."""
        return self._asked("GET", _target(path, query or {}), b"", deadline)

    def post(self, path: str, form: Mapping[str, str], *, deadline: float) -> Answer:
        """As the port."""
        return self._asked("POST", path, urlencode(form).encode("ascii"), deadline)

    def hold(self, path: str, query: Mapping[str, str], *, deadline: float) -> "HeldRequest":
        """As the port."""
        return HeldRequest(self, _target(path, query), deadline)

    def _asked(self, method: str, target: str, content: bytes, deadline: float) -> Answer:
        where = f"the site of {self._address.node} at {self._address.host}:{self._address.port}"
        try:
            return self._exchanged(method, target, content, deadline)
        except httpcore.TimeoutException:
            raise DeadlineExceeded(
                f"{where} did not answer within {deadline:g} s", remedy="check the application pool of the site"
            ) from None
        except ssl.SSLError as error:
            raise self._untrusted(where, error) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ssl.SSLError):
                raise self._untrusted(where, cause) from None
            raise NodeRefused(
                f"{where} does not answer: {type(error).__name__}",
                remedy="check the site in IIS, its binding, and the firewall between this worker and the server",
            ) from None

    def _untrusted(self, where: str, error: ssl.SSLError) -> NodeError:
        why = getattr(error, "verify_message", "") or error.reason or type(error).__name__
        return NodeRefused(
            f"{where} has no certificate that is trusted for {self._address.name}: {why}",
            remedy="set sync.ca_file to the authorities of the site's certificate",
        )

    def _exchanged(self, method: str, target: str, content: bytes, deadline: float) -> Answer:
        address = self._address
        url = httpcore.URL(scheme=address.scheme, host=address.host, port=address.port, target=target.encode("ascii"))
        headers: dict[bytes | str, bytes | str] = {
            "Host": address.name,
            "Accept-Encoding": "identity",
            "User-Agent": "esync",
            "Connection": "close",
        }
        if self._cookies.header:
            headers["Cookie"] = self._cookies.header
        if method == "POST":
            headers |= {"Content-Type": _FORM, "Content-Length": str(len(content))}
        name = address.name.rpartition(":")[0] if address.name.rpartition(":")[2].isdigit() else address.name
        extensions = {"sni_hostname": name.strip("[]")}
        with (
            httpcore.ConnectionPool(
                ssl_context=self._trust, network_backend=BoundedBackend(deadline), max_keepalive_connections=0
            ) as pool,
            pool.stream(method, url, headers=headers, content=content, extensions=extensions) as response,
        ):
            found = [(key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in response.headers]
            self._cookies.take(value for key, value in found if key == "set-cookie")
            body = self._body(response)
            redirected = response.status // 100 == 3  # noqa: PLR2004 - the class of redirects
            location = next((value for key, value in found if key == "location"), "")
            return Answer(response.status, body, location if redirected else "")

    def _body(self, response: httpcore.Response) -> bytes:
        parts, size = [], 0
        for part in response.iter_stream():
            size += len(part)
            if size > LARGEST:
                raise too_much(self._address.node)
            parts.append(part)
        return b"".join(parts)


class HeldRequest:
    """A request that waits for its answer in a thread of its own, and ends with the process at the latest."""

    def __init__(self, site: HttpSite, target: str, deadline: float) -> None:
        self._answer: Answer | None = None
        self._error: NodeError | None = None
        threading.Thread(target=self._wait, args=(site, target, deadline), name="esync-held", daemon=True).start()

    def _wait(self, site: HttpSite, target: str, deadline: float) -> None:
        try:
            self._answer = site._asked("GET", target, b"", deadline)  # noqa: SLF001 - one module
        except NodeError as error:
            self._error = error

    def answer(self) -> Answer | None:
        """As the port."""
        if self._error is not None:
            raise self._error
        return self._answer


def _target(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _trust(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise NodeRefused(
            f"the authorities of the site of {address.node} cannot be used: {type(error).__name__}",
            file=address.ca_file,
            remedy="set sync.ca_file to a PEM file",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
