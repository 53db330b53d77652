"""The balancer of a pool, as a cluster file says it: how to take a server out, and when it may be back."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.connection import Part, SecretReference, text

__all__ = ["Balancer", "Expected", "Prober"]

Url = Annotated[
    str,
    text(
        r"^https?://[^\s/?#\x00-\x1f]+[^\s\x00-\x1f]*$",
        "an http or https URL; {node}, {host} and {server} stand for names of the server",
        longest=2000,
    ),
]
Shown = Annotated[str, Field(max_length=200, description="a text in the page, at most 200 characters; empty for any")]
Wait = Annotated[float, Field(ge=0, le=86_400, description="0 to 86400 seconds")]
Bound = Annotated[float, Field(gt=0, le=600, description="more than 0 and at most 600 seconds")]
Name = Annotated[str, text(r"^[A-Za-z0-9_.:-]+$", "a name of letters, digits, '_', '.', ':' or '-'", longest=128)]
Argument = Annotated[str, text(r"^[^\x00]*$", "text without NUL", longest=4096)]
Variable = Annotated[str, text(r"^[A-Za-z_][A-Za-z0-9_]*$", "a name such as LB_TOKEN", longest=64)]

#: What each kind cannot do without.
_NEEDS = {
    "manual": ("status",),
    "file": ("file", "health"),
    "haproxy": ("address", "backend"),
    "command": ("program",),
}
_ONLY = {"status", "shows", "file", "address", "backend", "program", "env"}


class Expected(Part):
    """A page of the site, asked on the server itself: status 200, with the text in it, means that the site works."""

    url: Url
    text: Shown = ""


class Prober(Part):
    """A page behind the balancer that a worker asks during a run; the report shows how often it answered.

    Attributes:
        every: seconds from one request to the next.
        within: seconds in which it has to answer; a later answer counts as none.
    """

    url: Url
    text: Shown = ""
    every: Annotated[float, Field(ge=0.1, le=60, description="0.1 to 60 seconds")] = 1.0
    within: Bound = 5.0


class Balancer(Part):
    """How a pool's balancer is operated, and how long each part may take. All times are seconds.

    Attributes:
        kind: `haproxy` (its runtime API), `file` (a health file on each server is renamed), `command` (a program of
            yours), `manual` (a person operates it, and a page shows when it is done).
        address: haproxy: the path of the socket, or `host:port`.
        backend: haproxy: the backend of the pool.
        file: file: the path of the health file on each server.
        program: command: the program and its first arguments, without a shell; server and verb are appended.
        env: command: variables of the program, each a secret reference.
        status: manual: a page that shows whether a server gets requests.
        shows: manual: the text in that page while it does.
        servers: node -> its name in the balancer, where it differs.
        health: a page of the site that has to answer before a server is put back.
        room_within: how long a server waits until enough others get requests (`policy.pools`).
        drained_within: how long it waits until the server is out, and then for the end of its sessions.
        noticed_after: how long the balancer takes to notice, where it does not say how many sessions are open.
        healthy_within: how long the server may take to work again, and then the balancer to send it requests.
        answers_within: for each request to the balancer.
        probe: a page behind the balancer.
    """

    kind: Literal["haproxy", "file", "command", "manual"]
    address: Annotated[
        str | None,
        text(
            r"^(/[^\x00-\x1f]{1,100}|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5})$", "/path/of/socket or host:port"
        ),
    ] = None
    backend: Name | None = None
    file: Annotated[
        str | None,
        text(r"^[A-Za-z]:\\[^/*?\"<>|\x00-\x1f]*[^/*?\"<>|\\\x00-\x1f]$", r"a file such as C:\inetpub\wwwroot\up.htm"),
    ] = None
    program: Annotated[tuple[Argument, ...], Field(max_length=50, description="a list: program and arguments")] = ()
    env: Annotated[dict[Variable, SecretReference], Field(max_length=50, description="NAME: env:NAME or file:PATH")] = (
        Field(default_factory=dict)
    )
    status: Url | None = None
    shows: Shown = ""
    servers: Annotated[dict[str, Name], Field(max_length=5000, description="names by node")] = Field(
        default_factory=dict
    )
    health: Expected | None = None
    room_within: Wait = 120
    drained_within: Wait = 60
    noticed_after: Wait = 15
    healthy_within: Wait = 120
    answers_within: Bound = 10
    probe: Prober | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = _NEEDS[self.kind]
        if missing := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f"a balancer of kind {self.kind} needs `{missing[0]}`")
        own = {"env"} if self.kind == "command" else {"shows"} if self.kind == "manual" else set()
        given = {name for name in _ONLY if getattr(self, name)}
        if other := sorted(given - set(needed) - own):
            raise ValueError(f"a balancer of kind {self.kind} has no `{other[0]}`")
        return self

    @property
    def longest(self) -> float:
        """Seconds that a step may take for it at most."""
        out = self.room_within + 2 * self.drained_within + self.noticed_after
        return max(out, 2 * self.healthy_within) + 4 * self.answers_within

    def server(self, node: str) -> str:
        """The name that the balancer has for a node."""
        return self.servers.get(node, node)
