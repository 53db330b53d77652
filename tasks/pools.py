"""One node and the balancer of its pool: the adapter that the cluster file names, the mark, the floor, the health."""

from collections.abc import Sequence
from functools import cached_property
from http import HTTPStatus

from tasks.balancer import Balancer as Spec
from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.wording import counted
from tasks.marks import Balancing, Mark, place_of
from tasks.observe import drained_note
from tasks.observe.layout import planned_layout
from tasks.observe.probes import listens, own_port
from tasks.step import Work
from workers.balancers.haproxy import HAProxy
from workers.balancers.health_file import HealthFile
from workers.balancers.manual import Manual
from workers.balancers.pages import Page
from workers.balancers.port import Balancer, Seen, ServerState
from workers.balancers.program import Program
from workers.errors import BalancerFailed
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["Member", "member_of"]


def member_of(work: Work) -> "Member | None":
    """The node as a member of its pool; None if no balancer is configured for it."""
    spec = work.cluster.balancer(work.node.name)
    return Member(work, spec, work.balancing) if spec and work.balancing else None


class Member:
    """A node in its pool.

    Args:
        work: the node.
        spec: the balancer of its pool.
        balancing: marks and programs.

    Attributes:
        spec: the balancer of its pool.
        server: the name that the balancer has for the node.
    """

    def __init__(self, work: Work, spec: Spec, balancing: Balancing) -> None:
        self.spec = spec
        self.server = spec.server(work.node.name)
        self._work = work
        self._balancing = balancing
        self._marks = balancing.marks
        self._place = self._place_of(work.node.name)

    @cached_property
    def balancer(self) -> Balancer:
        """The adapter."""
        spec, work = self.spec, self._work
        if spec.kind == "haproxy":
            return HAProxy(spec.address or "", spec.backend or "", spec.answers_within)
        if spec.kind == "manual":
            return Manual(self._url(spec.status or ""), spec.shows, spec.answers_within, self._tell)
        if spec.kind == "command":
            program = self._balancing.program(spec.program[0])
            env = {name: work.reveal(secret).reveal() for name, secret in spec.env.items()}
            return Program([program, *spec.program[1:]], env, spec.answers_within)
        file = spec.file or ""
        return HealthFile(
            file, self._ask, lambda change: work.change(change, folders=(_folder(file),)), self._answering
        )

    def seen(self) -> Seen:
        """What the balancer does with the node now."""
        return self.balancer.state(self.server)

    @property
    def mark(self) -> Mark | None:
        """Our mark on the node, if a run took it out and it is not known to be back."""
        return self._marks.all().get(self._place)

    def noted(self) -> Mark | None:
        """Our mark by the note on the node itself, for a store that has lost it; the store then has it again."""
        (reply,) = self._ask([drained_note.question(self._work.own_folder)], keep_going=True)
        mark = drained_note.mark_in(reply, self._place)
        if mark is not None:
            self._marks.keep(self._place, mark)
        return mark

    def keep_mark(self, *, listened: bool) -> Mark:
        """Marks the node as taken out by this run; `listened` is whether its service did before."""
        work = self._work
        mark = Mark(run=work.run, node=work.node.name, pool=work.node.pool, listened=listened)
        self._marks.keep(self._place, mark)
        return mark

    def listens(self) -> bool:
        """Whether its service listens, asked on the node itself."""
        (port,) = self._ask([own_port(self._work)], keep_going=True)
        return listens(self._work, port)

    def remove_mark(self) -> None:
        """The node is back: the note on it goes first, then the mark."""
        self._work.change([drained_note.removal(self._work.own_folder)], folders=())
        self._marks.remove(self._place)

    def take_out(self) -> str:
        """Takes the node out if enough others get requests. First comes the mark, then the count, the note, the drain.

        Two nodes that do this at the same time both see the other's mark: together they never go below the floor. The
        turn only keeps them from giving way to each other forever.

        Returns:
            Why it has to wait; empty when the balancer was asked to take it out.
        """
        cluster, pool = self._work.cluster, self._work.node.pool
        listened = self.listens()
        with self._marks.turn(f"{cluster.name}@{cluster.digest}:{pool}", self._work.node.name) as granted:
            if not granted:
                return "another server of the pool is being taken out"
            mark = self.keep_mark(listened=listened)
            try:
                seen = self.seen()
                short = "" if seen.state is ServerState.DOWN else self._short()  # one that is down is no loss
                if not short and seen.state is not ServerState.DRAINING:
                    note = drained_note.recording(self._work.own_folder, self._place, mark)
                    self._work.change([note], folders=())
            except BalancerFailed:
                self._marks.remove(self._place)
                raise
            if short or seen.state is ServerState.DRAINING:  # someone else was faster: then it is not ours
                self._marks.remove(self._place)
                return short
            self.balancer.drain(self.server)  # if this fails, it may have had its effect: the mark stays
            return ""

    def _short(self) -> str:
        """Why the pool would be below its floor without the node; empty if it would not."""
        cluster, node = self._work.cluster, self._work.node
        floor = cluster.floor(node.pool)
        if not floor:
            return ""
        marks, members = self._marks.all(), cluster.pool_members(node.pool)
        others = [name for name in members if name != node.name and self._place_of(name) not in marks]
        ready = self.balancer.healthy([self.spec.server(name) for name in others])
        if len(ready) >= floor:
            return ""
        are = "other server gets" if len(ready) == 1 else "other servers get"
        return f"only {len(ready)} {are} requests, and policy.pools.{node.pool}.min_healthy asks for {floor}"

    def lacks(self, *, must_listen: bool) -> str:
        """What the node lacks before it may get requests, asked on the node itself; empty if nothing.

        Args:
            must_listen: whether its service has to run and listen.
        """
        health = self.spec.health
        questions: list[Op] = []
        if must_listen:
            service = planned_layout(self._work).service_name
            questions = [ops.service(service), own_port(self._work)]
        page = [_asking(self._url(health.url), self.spec.answers_within)] if health else []
        replies = list(self._ask([*questions, *page], keep_going=True)) if questions or page else []
        if must_listen:
            state, port, *replies = replies
            if state.get("state") != "running":
                return f"its service is {state.get('state') or 'not known'}"
            if not listens(self._work, port):
                return f"nothing listens on port {SYNC_PORT}"
        return _missing(replies[0], self._url(health.url), health.text) if health and replies else ""

    def _tell(self, message: str) -> None:
        self._work.note("step.waits", message)

    def _place_of(self, node: str) -> str:
        cluster = self._work.cluster
        return place_of(cluster.name, cluster.server(node))

    def _answering(self, servers: Sequence[str]) -> frozenset[str]:
        """Those whose site answers this node, where the balancer itself cannot be asked."""
        health = self.spec.health
        if health is None:
            return frozenset()
        cluster, spec = self._work.cluster, self.spec
        nodes = {spec.server(name): name for name in cluster.pool_members(self._work.node.pool)}
        known = [name for name in servers if name in nodes]
        asked = [_asking(self._url(health.url, nodes[name]), spec.answers_within) for name in known]
        replies = self._ask(asked, keep_going=True) if asked else []
        return frozenset(
            name for name, reply in zip(known, replies, strict=True) if not _missing(reply, "", health.text)
        )

    def _url(self, url: str, node: str = "") -> str:
        """A URL of the cluster file for a node; `{server}` of a status page is left to the adapter."""
        one = self._work.cluster.node(node) if node else self._work.node
        host = f"[{one.host}]" if ":" in one.host else one.host
        return url.replace("{node}", one.name).replace("{host}", host)

    def _ask(self, questions: Sequence[Op], *, keep_going: bool = False) -> Sequence[Reply]:
        work = self._work
        bound = work.deadline + self.spec.answers_within * len(questions)
        return work.session.ask(questions, deadline=bound, keep_going=keep_going)


def _folder(file: str) -> str:
    return file.rpartition("\\")[0]


def _asking(url: str, seconds: float) -> Op:
    return ops.http(url, timeout=seconds)


def _missing(reply: Reply, url: str, text: str) -> str:
    """Why a page is not what it has to be; empty if it is."""
    if not reply.ok:
        return f"{url} does not answer: {reply.message}"
    page = Page(int(reply["status"]), ops.data_of(reply, "body"))
    if page.shows(text):
        return ""
    if page.status != HTTPStatus.OK:
        return f"{url} answers with status {page.status}"
    return f"{url} answers without the text {text!r} in its first {counted(len(page.body), 'byte')}"
