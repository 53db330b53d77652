"""Frozen values that processes share: as JSON in the run store, never as arguments of a task.

Nothing here knows the product: a step happens on a node, and `tasks` knows what it means.
"""

import hashlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from typing_extensions import override

from workers.errors import Failure, Problem

__all__ = [
    "Change",
    "DocumentKind",
    "Endpoint",
    "Event",
    "Record",
    "RunRecord",
    "RunState",
    "SmallRecord",
    "Status",
    "StepOutcome",
    "Transport",
    "Turn",
    "Verdict",
    "now",
]


def now() -> datetime:
    """The present time, with its time zone."""
    return datetime.now(UTC)


class Record(BaseModel):
    """A frozen value that is written as JSON and read from it; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_json(self) -> str:
        """Compact JSON that `model_validate_json` reads back."""
        return self.model_dump_json(exclude_defaults=True)


class SmallRecord(Record):
    """A record of which a worker keeps thousands. Which fields were given is forgotten: the names take half of it."""

    @override
    def model_post_init(self, context: object, /) -> None:
        object.__setattr__(self, "__pydantic_fields_set__", _NOT_KEPT)


#: Pydantic changes only copies of it.
_NOT_KEPT: set[str] = set()


class Transport(StrEnum):
    """How a session authenticates."""

    NTLM = "ntlm"
    BASIC = "basic"
    KERBEROS = "kerberos"
    CREDSSP = "credssp"
    CERTIFICATE = "certificate"


class Endpoint(SmallRecord):
    """The WinRM address of one node, and the account of the session.

    Attributes:
        scheme: over `http` every message is encrypted by the logon method.
        secret: a reference (`env:NAME`, `file:/path`), never the secret.
        ca_file: authorities that the node's certificate is verified with; None for those of the system.
        fingerprint: SHA-256 of the one certificate that is accepted instead, in lower case hex; empty without a pin.
        tls_minimum: the oldest TLS version: `1.2`, or `1.0` for servers that have nothing newer.
        realm: the Kerberos realm of the account; empty for the one that the account or this machine names.
        kdc: host, or host:port, of the realm's key distribution center; empty to look it up.
        spn: the service principal name of the node, such as `HTTP/p1.example.org`; empty for that of `host`.
        connect_timeout: seconds.
    """

    node: str
    host: str
    port: int = 5986
    transport: Transport = Transport.NTLM
    user: str
    secret: str
    ca_file: str | None = None
    scheme: Literal["https", "http"] = "https"
    fingerprint: str = ""
    tls_minimum: Literal["1.0", "1.2"] = "1.2"
    realm: str = ""
    kdc: str = ""
    spn: str = ""
    connect_timeout: float = 10.0

    @property
    def account(self) -> str:
        """A short name for the user with its secret, so that all nodes with the same account can be found."""
        return hashlib.sha256(f"{self.user}\0{self.secret}".encode()).hexdigest()[:12]


class Status(StrEnum):
    """What a step did to a node."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    WOULD_CHANGE = "would_change"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def ends_node(self) -> bool:
        """Whether the node takes no further step of this run after this one."""
        return self in {Status.FAILED, Status.UNREACHABLE, Status.SKIPPED, Status.CANCELLED}


class Change(SmallRecord):
    """One thing that a step changed, or would change: a value in a file, a file, a service.

    `before` and `after` are for people to read: shortened, and never secret.
    """

    what: str
    file: str = ""
    before: str = ""
    after: str = ""


class StepOutcome(SmallRecord):
    """What one step did to one node in one turn of a run.

    The fields of `problem` are stored side by side: the hash chain of every run so far covers them in this form.

    Attributes:
        touched: whether a step that failed or was cancelled had begun to change the node.
        way: how requests reach PowerShell: `conversation`, or `batch` (one PowerShell process per request).
        shells: PowerShell processes started for this step.
    """

    run: str
    turn: str
    node: str
    step: str
    status: Status
    slug: str = ""
    failure: Failure | None = None
    message: str = ""
    file: str = ""
    remedy: str = ""
    changes: tuple[Change, ...] = ()
    started: AwareDatetime
    ended: AwareDatetime
    attempt: int = 1
    worker: str = ""
    round_trips: int = 0
    shells: int = 0
    touched: bool = False
    about: str = ""
    way: str = ""

    @property
    def problem(self) -> Problem:
        """Why the step did not end well. Of a step that ended well only the message is set."""
        return Problem(**{name: getattr(self, name) for name in Problem.model_fields})

    @property
    def seconds(self) -> float:
        """The duration of the step."""
        return (self.ended - self.started).total_seconds()


class DocumentKind(StrEnum):
    """The kinds of documents that a run keeps in the store: one per node, unless a comment gives another number."""

    OBSERVED = "observed"  #: facts that the plan of this run is made from
    PLANNED = "planned"  #: facts that a plan was made from before this run, and saved
    VERIFIED = "verified"  #: facts that the verdict is made from
    UP_TO_DATE = "right"  #: not empty when the check of a wave found that the node needs no change
    PLAN = "plan"  #: one per run
    FINDINGS = "findings"  #: what the rules found, per assessment
    FAMILY = "family"  #: public digests of the certificate material, one per run
    EARLIER_SITES = "earlier_sites"  #: folders in which earlier runs found the site, one per run
    JOINED_BEFORE = "joined_before"  #: an earlier run that found these servers joined, one per run
    PREVIOUS = "previous"  #: the same of the family that a renewal replaces, one per run
    ATTESTED = "attested"  #: what persons had confirmed when the run was requested, one per run
    DRAINED = "drained"  #: one with the servers that earlier runs had left out when this one began; the others per node
    SYNC = "sync"  #: what a step of a sync has seen, per node and turn
    SYNC_MARK = "syncmark"  #: made before a sync is requested, and what was seen of it since: survives a worker
    DOWN = "down"  #: the nodes that the run leaves alone, and that were down when last seen, one per run
    AVAILABILITY = "availability"  #: how often pages behind balancers answered, several per run
    SEALED = "sealed"  #: certificate material, encrypted with the seal key


class Turn(Record):
    """One part of a run: these steps, in order, on each of these nodes in parallel, then one join."""

    name: str  #: `canary`, `observe`, `wave-1`, `verify`
    stage: str
    steps: tuple[str, ...]
    nodes: tuple[str, ...]


class RunState(StrEnum):
    """The state of a run."""

    CREATED = "created"
    RUNNING = "running"
    CONCLUDED = "concluded"


class Verdict(StrEnum):
    """How a run ended. It decides the exit code of the command."""

    JOINED = "joined"
    FAILED = "failed"
    STOPPED = "stopped"
    UNREACHABLE = "unreachable"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    CANCELLED = "cancelled"
    LOCKED = "locked"
    STALE = "stale"  #: the cluster has changed since the plan was made
    CHANGES_PENDING = "changes_pending"  #: of a plan
    NOTHING_TO_DO = "nothing_to_do"  #: of a plan
    READY = "ready"  #: of a readiness check before the first rollout
    RESTORED = "restored"  #: of a rollback: every file has its old content
    CLEAN = "clean"  #: of a cleanup: everything is removed that had to be
    PROVEN = "proven"  #: of a sync: every server has the file, byte for byte
    SYNCED = "synced"  #: of a sync or a refresh that has ended without a failure
    ANSWERED = "answered"  #: of a question that changes nothing
    RETIRED = "retired"  #: of a node that leaves its cluster: it has no right to connect any more, and accepts no node

    @property
    def exit_code(self) -> int:
        """The exit status for scripts: 0 to 7, 130."""
        return {
            Verdict.JOINED: 0,
            Verdict.FAILED: 2,
            Verdict.STOPPED: 3,
            Verdict.UNREACHABLE: 4,
            Verdict.REFUTED: 5,
            Verdict.INCONCLUSIVE: 6,
            Verdict.LOCKED: 7,
            Verdict.STALE: 7,
            Verdict.CHANGES_PENDING: 2,
            Verdict.NOTHING_TO_DO: 0,
            Verdict.READY: 0,
            Verdict.RESTORED: 0,
            Verdict.CLEAN: 0,
            Verdict.PROVEN: 0,
            Verdict.SYNCED: 0,
            Verdict.ANSWERED: 0,
            Verdict.RETIRED: 0,
            Verdict.CANCELLED: 130,
        }[self]

    @classmethod
    def worst_first(cls) -> tuple["Verdict", ...]:
        """All verdicts: what is wrong on servers, then what is unknown, then what was not done, then the good."""
        bad = (
            cls.FAILED,
            cls.STOPPED,
            cls.REFUTED,
            cls.UNREACHABLE,
            cls.INCONCLUSIVE,
            cls.STALE,
            cls.LOCKED,
            cls.CANCELLED,
            cls.CHANGES_PENDING,
        )
        return (*bad, *(verdict for verdict in cls if verdict not in bad))


class RunRecord(Record):
    """One run: its cluster, its progress and its end.

    `version` counts the writes: a transition names the version that it read, and is refused when there is a newer one.
    `spec` is the cluster as data, with references to secrets and without secrets.
    """

    id: str
    kind: str = "rollout"  #: see `pipelines.run.kinds`
    cluster: str
    servers: str = ""  #: digest of the addresses of its servers; with the name it identifies the cluster
    spec: dict[str, Any]
    state: RunState = RunState.CREATED
    version: int = 0
    turns: tuple[Turn, ...] = ()  #: those started so far; the last one is current
    joined: tuple[str, ...] = ()  #: names of the turns whose join is done
    verdict: Verdict | None = None
    summary: str = ""  #: one sentence for people, set with the verdict
    plan_fingerprint: str = ""
    created: AwareDatetime = Field(default_factory=now)
    began: AwareDatetime | None = None  #: when its turn in its group came; None for a run that was requested alone
    ended: AwareDatetime | None = None
    who: str = ""
    origin_host: str = ""  #: the machine on which the run was requested
    reason: str = ""
    parent: str = ""  #: the run that this one retries or rolls back
    only: tuple[str, ...] = ()  #: the nodes that may be changed; all when empty
    #: `force` (rollback), `all` or `fence` (cleanup), `prune` (rollout), `retire`, `name=value` (sync)
    options: tuple[str, ...] = ()
    key: str = ""  #: idempotency key: the same key twice is one run

    @property
    def scope(self) -> str:
        """The cluster as `name@digest`: an idempotency key is valid within it. The name alone in older records."""
        return f"{self.cluster}@{self.servers}" if self.servers else self.cluster

    def seconds(self, at: datetime) -> float:
        """How long the run has lasted until its end, or until `at`; without its wait for its turn in a group."""
        return ((self.ended or at) - self.since).total_seconds()

    @property
    def since(self) -> datetime:
        """From when its time counts."""
        return self.began or self.created

    @property
    def turn(self) -> Turn | None:
        """The current turn."""
        return self.turns[-1] if self.turns else None


class Event(Record):
    """One event of a run's history, in the order of the history. The store sets `id` and `chain`."""

    id: str = ""
    at: AwareDatetime = Field(default_factory=now)
    kind: Annotated[str, Field(pattern=r"^[a-z]+(\.[a-z_]+)*$")]  #: `run.started`, `step.ended`
    turn: str = ""
    node: str = ""
    step: str = ""
    status: str = ""
    failure: str = ""  #: the class of a step's failure
    message: str = ""
    digest: str = ""  #: of what the event is about: the run as requested, an outcome, the plan, the conclusion
    chain: str = ""  #: the link to all events before it (workers/store/chain.py)
