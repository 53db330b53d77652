"""A balancer that a person operates: a message says what to click, and a status page shows when it is done."""

from collections.abc import Callable, Sequence

from workers.balancers import pages
from workers.balancers.port import Balancer, Seen, ServerState
from workers.errors import BalancerFailed

__all__ = ["Manual"]


class Manual(Balancer):
    """Closes its gates by itself: the page shows the text while the server gets requests, and something else otherwise.

    Args:
        url: of the page; `{server}` stands for the name of the server.
        text: what the page shows while the server gets requests.
        deadline: seconds for each request.
        tell: tells people what to do.
    """

    def __init__(self, url: str, text: str, deadline: float, tell: Callable[[str], None]) -> None:
        self._url = url
        self._text = text
        self._deadline = deadline
        self._tell = tell

    def drain(self, server: str) -> None:
        """Asks people to take it out, unless it is."""
        if self.state(server).state is not ServerState.DRAINING:
            self._tell(
                f"take {server} out of the balancer (drain, not stop); the run continues by itself when "
                f"{self._page(server)} does not show {self._text!r} any more"
            )

    def undrain(self, server: str) -> None:
        """Asks people to put it back, unless it is in."""
        if self.state(server).state is not ServerState.READY:
            self._tell(
                f"put {server} back into the balancer; the run continues by itself when {self._page(server)} shows "
                f"{self._text!r}"
            )

    def state(self, server: str) -> Seen:
        """By the page: how many sessions are open is not known."""
        try:
            page = pages.get(self._page(server), self._deadline)
        except pages.NoAnswer as why:
            raise BalancerFailed(
                f"the status page {self._page(server)} does not answer: {why}",
                remedy="`status` in the cluster file has to name a page that answers whether the server is in or out",
            ) from None
        return Seen(ServerState.READY if page.shows(self._text) else ServerState.DRAINING)

    def healthy(self, servers: Sequence[str]) -> frozenset[str]:
        """Those whose page shows the text."""
        return frozenset(name for name in servers if self.state(name).state is ServerState.READY)

    def _page(self, server: str) -> str:
        return self._url.replace("{server}", server)
