"""A balancer that polls a file of the site: the file is renamed on the server, so the poll fails, and renamed back.

The copy comes first and the removal second, so no death between them loses the content. How long the balancer takes to
notice is not known here; the step waits for that.
"""

from collections.abc import Callable, Sequence

from workers.balancers.port import Balancer, Seen, ServerState
from workers.errors import BalancerFailed
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["HealthFile"]

_ASIDE = ".drained"  #: added to the name of the file while the server is out
Asking = Callable[[Sequence[Op]], Sequence[Reply]]


class HealthFile(Balancer):
    """The balancer of one server, seen from that server.

    Args:
        path: of the file on the server.
        ask: sends operations that read to the server's agent.
        change: sends operations that change it, with the claim of the run.
        others: those of these servers that answer, as this server sees them.
    """

    def __init__(
        self, path: str, ask: Asking, change: Asking, others: Callable[[Sequence[str]], frozenset[str]]
    ) -> None:
        self._path = path
        self._aside = path + _ASIDE
        self._ask = ask
        self._change = change
        self._others = others

    def drain(self, server: str) -> None:
        """Renames the file aside."""
        if self.state(server).state is ServerState.READY:
            self._rename(self._path, self._aside)

    def undrain(self, server: str) -> None:
        """Renames it back; one that is in both places has been interrupted, and stays where it was."""
        del server
        there, aside = self._both()
        if aside and not there:
            self._rename(self._aside, self._path)
        elif aside:
            self._change([ops.remove(self._aside)])

    def state(self, server: str) -> Seen:
        """By the name that the file has now."""
        there, aside = self._both()
        if not there and not aside:
            raise BalancerFailed(
                f"{server}: the health file is not there",
                file=self._path,
                remedy="correct `file` of the balancer in the cluster file, or put the file there",
            )
        return Seen(ServerState.READY if there else ServerState.DRAINING)

    def healthy(self, servers: Sequence[str]) -> frozenset[str]:
        """Those that answer."""
        return self._others(servers)

    def _both(self) -> tuple[bool, bool]:
        there, aside = self._ask([ops.stat(self._path), ops.stat(self._aside)])
        return bool(there["exists"]), bool(aside["exists"])

    def _rename(self, old: str, new: str) -> None:
        (read,) = self._ask([ops.read(old)])
        copy = ops.write(new, ops.data_of(read), expect=ops.ANY)
        self._change([copy, ops.remove(old, expect=str(read["hash"]))])
