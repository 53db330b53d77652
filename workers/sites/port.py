"""The port: how the site of one node is asked. Nothing here makes a request.

Two adapters implement it, and one suite tests both (tests/contract/test_sites.py): `HttpSite` over the network, and
`MemorySite` for a site that is a function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from workers.errors import AgentFailed

__all__ = ["LARGEST", "Address", "Answer", "Held", "OpenSite", "Site", "too_much"]

LARGEST = 2_000_000  #: bytes of an answer


@dataclass(frozen=True, slots=True)
class Address:
    """Where the site of a node answers.

    Attributes:
        node: for messages.
        host: the node itself, never a balancer.
        port: of the site there.
        scheme: with `https` the certificate must be valid for the host of `name`.
        name: the site as browsers name it, with its port if that is not the usual one: the header `Host`.
        ca_file: authorities of its certificate; empty for those of the system.
    """

    node: str
    host: str
    port: int
    scheme: Literal["http", "https"]
    name: str
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a site. A redirect is an answer: it is not followed.

    Attributes:
        location: of a redirect; else empty.
    """

    status: int
    body: bytes = field(repr=False)
    location: str = ""

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")


class Held(Protocol):
    """A request that was sent and whose answer may come much later."""

    def answer(self) -> Answer | None:
        """The answer; None while there is none.

        Raises:
            NodeError: as `Site.get`.
        """


class Site(Protocol):
    """The site of one node. It keeps the site's cookies. Paths begin with a slash; all times are seconds.

    Errors of all requests: `NodeRefused` when the site cannot be reached, its certificate is not valid, or it answers
    what is no HTTP; `DeadlineExceeded` when the answer takes too long; `AgentFailed` when it is larger than `LARGEST`.
    """

    def get(self, path: str, query: Mapping[str, str] | None = None, *, deadline: float) -> Answer:
        """Asks for a page."""

    def post(self, path: str, form: Mapping[str, str], *, deadline: float) -> Answer:
        """Sends a form. Its values may be secret: they are in no message and no log."""

    def hold(self, path: str, query: Mapping[str, str], *, deadline: float) -> Held:
        """Sends a request whose answer may take minutes: it is waited for in a thread, also when the caller continues.

        The request is sent once: it is never repeated.
        """


OpenSite = Callable[[Address], Site]  #: opens a site; no request is made yet


def too_much(node: str) -> AgentFailed:
    """The answer of a site is larger than `LARGEST`."""
    return AgentFailed(
        f"the site of {node} answers more than {LARGEST} bytes",
        remedy="find out what answers at this address; the product answers with a few kilobytes",
    )
