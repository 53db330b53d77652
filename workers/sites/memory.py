"""A site that is a function: for tests, and wherever no network is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from workers.errors import NodeError
from workers.sites.cookies import Cookies
from workers.sites.port import LARGEST, Address, Answer, too_much

__all__ = ["Asked", "MemorySite", "Page"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the function gets it."""

    address: Address
    method: str
    path: str
    values: Mapping[str, str] = field(repr=False)  #: of the query or the form
    cookies: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """What the function answers. `cookies` are values of `Set-Cookie`."""

    body: bytes = b""
    status: int = 200
    location: str = ""
    cookies: tuple[str, ...] = ()


class MemorySite:
    """See `workers.sites.port.Site`. The function may raise a `NodeError`."""

    def __init__(self, address: Address, answers: Callable[[Asked], Page]) -> None:
        self._address = address
        self._answers = answers
        self._cookies = Cookies(secure=address.scheme == "https")

    def get(self, path: str, query: Mapping[str, str] | None = None, *, deadline: float) -> Answer:
        """As the port."""
        del deadline
        return self._asked("GET", path, query or {})

    def post(self, path: str, form: Mapping[str, str], *, deadline: float) -> Answer:
        """As the port."""
        del deadline
        return self._asked("POST", path, form)

    def hold(self, path: str, query: Mapping[str, str], *, deadline: float) -> "_Ended":
        """As the port; the answer is there at once."""
        del deadline
        try:
            return _Ended(self._asked("GET", path, query))
        except NodeError as error:
            return _Ended(error)

    def _asked(self, method: str, path: str, values: Mapping[str, str]) -> Answer:
        plain, _, query = path.partition("?")
        asked = Asked(self._address, method, plain, {**dict(parse_qsl(query)), **values}, self._cookies.header)
        page = self._answers(asked)
        self._cookies.take(page.cookies)
        if len(page.body) > LARGEST:
            raise too_much(self._address.node)
        return Answer(page.status, page.body, page.location)


class _Ended:
    def __init__(self, result: Answer | NodeError) -> None:
        self._result = result

    def answer(self) -> Answer | None:
        """As the port."""
        if isinstance(self._result, NodeError):
            raise self._result
        return self._result
