"""The cluster as one value: which servers, which product, how to reach them, how to go about it.

The cluster file (YAML) is read into this by `pipelines.cluster_file.loader`; the run store keeps it as data. It holds
references to secrets, never secrets.
"""

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from workers.errors import Failure, RecordRefused
from workers.records import Endpoint, RunRecord, Transport

__all__ = ["Cluster", "ClusterFile", "Connection", "Deadlines", "Node", "Policy", "Retries", "Role", "Site"]

# A NetBIOS name may start with a digit and hold hyphens (ektron-facts 2.3); 15 characters at most.
NodeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,14}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]*$")]
WindowsPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]:\\[^/*?\"<>|\x00-\x1f]*$")]
SecretReference = Annotated[str, StringConstraints(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Tries = Annotated[int, Field(ge=1, le=20)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(StrEnum):
    """What a node is for."""

    STAGING = "staging"
    PRODUCTION = "production"


class Connection(_Part):
    """How to reach a node over WinRM. Always https; `ca_file` is what its certificate is verified against."""

    transport: Transport = Transport.NTLM
    port: Annotated[int, Field(ge=1, le=65535)] = 5986
    user: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    secret: SecretReference
    ca_file: str | None = None


class ConnectionOverride(_Part):
    """What one node does differently."""

    transport: Transport | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    secret: SecretReference | None = None
    ca_file: str | None = None


class Node(_Part):
    """One Windows server. `name` is its NetBIOS name, as the certificate files carry it (ektron-facts 2.3)."""

    name: NodeName
    host: Host
    role: Role
    pool: Word
    connection: ConnectionOverride = ConnectionOverride()


class Site(_Part):
    """Where the product's parts lie. Only `path` has no default; the rest follows from the edition."""

    path: WindowsPath
    service_folder: WindowsPath | None = None
    product_folder: WindowsPath | None = None


class Deadlines(_Part):
    """Bounds in seconds, each measured by us.

    Attributes:
        connect: until a node takes a connection.
        step: one step on one node, with all its tries, asks and waits.
        service: until a service has stopped or started.
        run: all of a run; while it is paused its clock stands still.
        cancel: how long a cancelled run waits for steps that are in the middle of something.
    """

    connect: Seconds = 10
    step: Seconds = 300
    service: Seconds = 90
    run: Seconds = 7200
    cancel: Seconds = 30


class Retries(_Part):
    """How often a step is tried, by the class of its failure (workers/errors.py). Owned by one layer.

    What was refused and what is stale is tried once, whatever stands here: accounts get locked, and a stale plan stays
    stale.

    Attributes:
        unreachable: no connection, or it broke; the step observes again in a new session.
        conflict: a file changed or was held under our hands.
        timeout: a wait ended before the node was done.
        failed: anything else.
        backoff: seconds before the second try, doubled each time and jittered.
        longest: seconds between two tries at most.
    """

    unreachable: Tries = 3
    conflict: Tries = 3
    timeout: Tries = 1
    failed: Tries = 1
    backoff: Annotated[float, Field(ge=0, le=60)] = 0.2
    longest: Annotated[float, Field(ge=0, le=600)] = 3.0

    def attempts(self, failure: Failure | None) -> int:
        """How many tries a failure of that class is worth, the first one included."""
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
    """How a run goes about it.

    Attributes:
        concurrency: nodes worked on at a time.
        waves: `pools` (one wave a pool, staging first), `all`, or sizes such as `[1, 5, "25%", "100%"]`.
        max_failed: a run stops after a wave in which more nodes than this have failed so far; null is a third
            of the cluster.
        max_refused: refused logons that an account may collect in one run; then no node that has not accepted it
            before is tried any more, and the run stops (accounts get locked). No more nodes than this log on with an
            account for the first time at a time. The first refusal is always the last when no node has accepted the
            account; 0 counts as 1.
        unreachable: `continue` without the nodes that do not answer, or `stop` before anything is written.
        stale: when a saved plan no longer fits a node, `stop` before anything is written, or `continue` without it.
        keep_backups_days: how long the nodes keep what runs replaced; `cleanup` removes what is older.
        generate_certificates: make a family where the origin has none, instead of stopping at the gate.
        deadlines: bounds in seconds.
        retries: how often a step is tried, by the class of its failure.
    """

    concurrency: Annotated[int, Field(ge=1, le=1000)] = 50
    waves: Literal["pools", "all"] | tuple[int | str, ...] = "pools"
    max_failed: Annotated[int, Field(ge=0)] | None = None
    max_refused: Annotated[int, Field(ge=0, le=1000)] = 2
    unreachable: Literal["continue", "stop"] = "continue"
    stale: Literal["stop", "continue"] = "stop"
    generate_certificates: bool = False
    keep_backups_days: Annotated[int, Field(ge=0, le=3650)] = 30
    deadlines: Deadlines = Deadlines()
    retries: Retries = Retries()

    @field_validator("waves")
    @classmethod
    def _sizes(cls, waves: object) -> object:
        for size in waves if isinstance(waves, tuple) else ():
            if not re.fullmatch(r"[1-9][0-9]*|(100|[1-9][0-9]?)%", str(size)):
                raise ValueError(f"{size!r} is no wave size: a number of nodes from 1, or a share such as 25%")
        return waves


class ClusterFile(_Part):
    """Servers that share one site, as a cluster file describes them.

    `edition` is the CMS version, `major.minor`: 8.0 has service 3.0, 8.5 to 9.x have service 4.0 (ektron-facts 1.1).
    """

    name: Word
    edition: Annotated[str, StringConstraints(pattern=r"^(8\.0|8\.[5-7]|9\.[0-3])$")]
    origin: NodeName
    site: Site
    connection: Connection
    policy: Policy = Policy()
    nodes: Annotated[tuple[Node, ...], Field(min_length=1, max_length=5000)]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [node.name.upper() for node in self.nodes]
        if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
            raise ValueError(f"nodes named twice (case does not count): {', '.join(twice)}")
        if self.origin.upper() not in names:
            raise ValueError(
                f"origin {self.origin!r} is none of the nodes: {', '.join(n.name for n in self.nodes[:12])}"
            )
        return self

    @property
    def node_names(self) -> tuple[str, ...]:
        """All names, in the file's order."""
        return tuple(node.name for node in self.nodes)

    def node(self, name: str) -> Node:
        """The node of that name; case does not count.

        Raises:
            KeyError: there is none.
        """
        for node in self.nodes:
            if node.name.upper() == name.upper():
                return node
        raise KeyError(name)

    def is_origin(self, name: str) -> bool:
        """Whether that node is the origin of the certificate family."""
        return name.upper() == self.origin.upper()

    def endpoint(self, name: str) -> Endpoint:
        """Where and as whom to log on to a node: the cluster's connection with the node's own differences."""
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
        folder: that of the cluster file, noted by who read it: secret files may lie below it. Empty when there is none.
    """

    folder: str = ""

    @classmethod
    def of_run(cls, record: RunRecord) -> Self:
        """The cluster of a run, as its record has it.

        Raises:
            RecordRefused: it was written by a version that described clusters otherwise.
        """
        try:
            return cls.model_validate(record.spec)
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            why = f"the cluster of run {record.id} cannot be read ({place}): another version of esync wrote it"
            raise RecordRefused(record.id, why) from None
