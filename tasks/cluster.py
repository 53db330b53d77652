"""The cluster as one value: its servers, the product on them, how to reach them, how runs proceed.

`pipelines.cluster_file.loader` reads it from the cluster file (YAML); the run store keeps it as data. It contains
references to secrets, never secrets.
"""

import re
from collections import Counter
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from workers.errors import Failure, RecordRefused
from workers.records import Endpoint, RunRecord, Transport

__all__ = ["Cluster", "ClusterFile", "Connection", "Deadlines", "Node", "Policy", "Retries", "Role", "Site"]


def _text(pattern: str, allowed: str, longest: int | None = None) -> FieldInfo:
    """A text that matches a pattern; messages about a cluster file describe it as `allowed`."""
    field: FieldInfo = Field(pattern=pattern, max_length=longest, description=allowed)
    return field


def _whole(low: int, high: int | None = None, more: str = "") -> FieldInfo:
    """A whole number within bounds, described by them."""
    end = "" if high is None else f" to {high}"
    field: FieldInfo = Field(ge=low, le=high, description=f"a whole number from {low}{end}{more}")
    return field


# The descriptions say what a cluster file may contain: messages about mistakes and the JSON schema show them.
# A NetBIOS name may start with a digit and contain hyphens (ektron-facts 2.3).
NodeName = Annotated[
    str, _text(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,14}$", "a NetBIOS name: 1 to 15 letters, digits, '-' or '_'")
]
Word = Annotated[
    str,
    _text(
        r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit",
        longest=64,
    ),
]
Host = Annotated[
    str,
    _text(r"^[A-Za-z0-9][A-Za-z0-9.:-]*$", "a host name or an IP address, without scheme or port", longest=253),
]
WindowsPath = Annotated[
    str,
    _text(r"^[A-Za-z]:\\[^/*?\"<>|\x00-\x1f]*$", r"an absolute Windows path such as C:\inetpub\wwwroot\site"),
]
SecretReference = Annotated[
    str, _text(r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", "env:NAME or file:PATH, never the secret itself")
]
Account = Annotated[
    str,
    Field(min_length=1, max_length=256, description=r"an account such as DOMAIN\name, at most 256 characters"),
]
CaFile = Annotated[str, Field(description="the path of a PEM file, relative to the cluster file")]
Port = Annotated[int, _whole(1, 65535)]
Seconds = Annotated[float, Field(gt=0, le=86400, description="more than 0 and at most 86400 seconds")]
Tries = Annotated[int, _whole(1, 20, ", including the first attempt")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(StrEnum):
    """What a node is for."""

    STAGING = "staging"
    PRODUCTION = "production"


class Connection(_Part):
    """How to reach a node over WinRM. Always https; the certificate of the node is verified against `ca_file`."""

    transport: Transport = Transport.NTLM
    port: Port = 5986
    user: Account
    secret: SecretReference
    ca_file: CaFile | None = None


class ConnectionOverride(_Part):
    """Settings in which one node differs from the cluster's connection."""

    transport: Transport | None = None
    port: Port | None = None
    user: Account | None = None
    secret: SecretReference | None = None
    ca_file: CaFile | None = None


class Node(_Part):
    """One Windows server. `name` is its NetBIOS name, as the certificate files carry it (ektron-facts 2.3)."""

    name: NodeName
    host: Host
    role: Role
    pool: Word
    connection: ConnectionOverride = ConnectionOverride()


class Site(_Part):
    """Where the parts of the product are installed. Only `path` has no default; the others follow from the edition."""

    path: WindowsPath
    service_folder: WindowsPath | None = None
    product_folder: WindowsPath | None = None


class Deadlines(_Part):
    """Time limits in seconds, each measured by the worker.

    Attributes:
        connect: until a node accepts a connection.
        step: one step on one node, with all its attempts, requests and waits.
        service: until a service has stopped or started.
        run: a whole run, without the time in which it is paused.
        cancel: how long a cancelled run waits for running steps.
    """

    connect: Seconds = 10
    step: Seconds = 300
    service: Seconds = 90
    run: Seconds = 7200
    cancel: Seconds = 30


class Retries(_Part):
    """How often a step is attempted, by the class of its failure (workers/errors.py). Only one layer retries.

    Refused and stale steps are attempted once, whatever is set here: accounts get locked, and a stale plan stays stale.

    Attributes:
        unreachable: no connection, or it broke; the step observes the node again in a new session.
        conflict: a file was changed or locked by another program during the step.
        timeout: a time limit ended before the node was done.
        failed: anything else.
        backoff: seconds before the second attempt, doubled each time, with jitter.
        longest: seconds between two attempts at most.
    """

    unreachable: Tries = 3
    conflict: Tries = 3
    timeout: Tries = 1
    failed: Tries = 1
    backoff: Annotated[float, Field(ge=0, le=60, description="0 to 60 seconds")] = 0.2
    longest: Annotated[float, Field(ge=0, le=600, description="0 to 600 seconds")] = 3.0

    def attempts(self, failure: Failure | None) -> int:
        """The number of attempts for a failure of that class, including the first one."""
        return self._worth.get(failure, 1)

    @property
    def _worth(self) -> dict[Failure | None, int]:
        return {
            Failure.UNREACHABLE: self.unreachable,
            Failure.CONFLICT: self.conflict,
            Failure.TIMEOUT: self.timeout,
            Failure.FAILED: self.failed,
        }


class Policy(_Part):
    """How a run proceeds.

    Attributes:
        concurrency: nodes processed at the same time.
        waves: `pools` (one wave per pool, staging first), `all`, or sizes such as `[1, 5, "25%", "100%"]`.
        max_failed: a run stops after a wave if more nodes than this have failed so far; null is a third of the
            cluster.
        max_refused: refused logons that an account may have in one run. After that, no node is tried that has not
            accepted the account before, and the run stops (accounts get locked). At most this number of nodes log on
            with an account for the first time at the same time. If no node has accepted the account, the run stops
            at the first refusal; 0 counts as 1.
        unreachable: `continue` without the unreachable nodes, or `stop` before anything is written.
        stale: if a node has changed since a saved plan was made, `stop` before anything is written, or `continue`
            without the node.
        keep_backups_days: how long the nodes keep replaced files; `cleanup` removes older ones.
        generate_certificates: generate a family if the origin has none, instead of stopping at the gate.
        deadlines: time limits in seconds.
        retries: how often a step is attempted, by the class of its failure.
    """

    concurrency: Annotated[int, _whole(1, 1000)] = 50
    waves: Annotated[
        Literal["pools", "all"] | tuple[int | str, ...],
        Field(description='pools, all, or sizes such as [1, 5, "25%", "100%"]'),
    ] = "pools"
    max_failed: Annotated[int | None, _whole(0, more=", or null for a third of the cluster")] = None
    max_refused: Annotated[int, _whole(0, 1000)] = 2
    unreachable: Literal["continue", "stop"] = "continue"
    stale: Literal["stop", "continue"] = "stop"
    generate_certificates: bool = False
    keep_backups_days: Annotated[int, _whole(0, 3650)] = 30
    deadlines: Deadlines = Deadlines()
    retries: Retries = Retries()

    @field_validator("waves")
    @classmethod
    def _sizes(cls, waves: object) -> object:
        for size in waves if isinstance(waves, tuple) else ():
            if not re.fullmatch(r"[1-9][0-9]*|(100|[1-9][0-9]?)%", str(size)):
                raise ValueError(f"{size!r} is not a wave size")
        return waves


class ClusterFile(_Part):
    """Servers that share one site, as a cluster file describes them.

    `edition` is the CMS version, `major.minor`: 8.0 has service 3.0, 8.5 to 9.x have service 4.0 (ektron-facts 1.1).
    """

    name: Word
    edition: Annotated[str, _text(r"^(8\.0|8\.[5-7]|9\.[0-3])$", "8.0, 8.5, 8.6, 8.7, 9.0, 9.1, 9.2, 9.3")]
    origin: Annotated[NodeName, Field(description="the name of one of the nodes")]
    site: Site
    connection: Connection
    policy: Policy = Policy()
    nodes: Annotated[
        tuple[Node, ...],
        Field(min_length=1, max_length=5000, description="1 to 5000 nodes, each with name, host, role and pool"),
    ]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = Counter(node.name.upper() for node in self.nodes)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"several nodes have the same name (ignoring case): {', '.join(twice)}")
        if self.origin.upper() not in names:
            raise ValueError(
                f"origin {self.origin!r} is not the name of a node: {', '.join(n.name for n in self.nodes[:12])}"
            )
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """All names, in the order of the file."""
        return tuple(node.name for node in self.nodes)

    def node(self, name: str) -> Node:
        """The node of that name, ignoring case.

        Raises:
            KeyError: there is none.
        """
        return self._by_name[name.upper()]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name.upper(): node for node in self.nodes}

    def __copy__(self) -> Self:
        """A copy without the index by name: `model_copy` may give it other nodes."""
        copied = super().__copy__()
        copied.__dict__.pop("_by_name", None)
        return copied

    def is_origin(self, name: str) -> bool:
        """Whether that node is the origin of the certificate family."""
        return name.upper() == self.origin.upper()

    def endpoint(self, name: str) -> Endpoint:
        """Where to log on to a node, and with which account: the cluster's connection with the node's own settings."""
        node = self.node(name)
        own = node.connection.model_dump(exclude_none=True)
        return Endpoint(
            node=node.name,
            host=node.host,
            connect_timeout=self.policy.deadlines.connect,
            **{**self.connection.model_dump(), **own},
        )


class Cluster(ClusterFile):
    """Servers that share one site.

    Attributes:
        folder: that of the cluster file, set by the reader of the file: secret files may be below it. May be empty.
    """

    folder: str = ""

    @classmethod
    def of_run(cls, record: RunRecord) -> Self:
        """The cluster of a run, as its record has it.

        Raises:
            RecordRefused: a version of esync with another description of clusters wrote it.
        """
        try:
            return cls.model_validate(record.spec)
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            why = f"the cluster of run {record.id} cannot be read ({place}): another version of esync wrote it"
            raise RecordRefused(record.id, why) from None
