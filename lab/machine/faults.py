"""The faults of a node as data: set in the configuration or while the lab runs."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["COUNTED", "Faults", "HttpErrors", "Later", "Moment", "ServiceFaults", "SiteFaults", "SyncFaults"]

Milliseconds = Annotated[int, Field(ge=0, le=600_000)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Times = Annotated[int, Field(ge=0)]


_SIMULATED = {
    "away",
    "locked",
    "clock_skew",
    "no_change_times",
    "disk_free",
    "stdin_swallowed",
    "dies_after_operations",
    "hangs",
    "operation_ms",
    "autorun",
    "powershell",
    "code_page",
    "power_cut",
    "service",
    "site",
    "sync",
    "cut",
    "later",
}
#: Faults that occur a number of times and count down.
COUNTED = (
    "http_errors",
    "reset_replies",
    "lose_requests",
    "receive_timeouts",
    "refuse_operations",
    "dies_after_operations",
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpErrors(_Part):
    """The next `times` requests are answered with this HTTP status, before any logon."""

    status: Literal[400, 500, 502, 503] = 503
    times: Times = 0


class ServiceFaults(_Part):
    """The faults of the product's service.

    Attributes:
        start_seconds, stop_seconds: time in the pending state.
        never_stops, never_starts: stays pending. dies_on_start: its process ends during the start.
        dies_after: its process ends that many seconds after each start; 0 is never.
        never_listens: it runs, but never opens its port.
        start_error: the system refuses its start with this error number, such as 1069; 0 is none.
        disabled: its start type is `disabled`.
    """

    start_seconds: Seconds = 0.0
    stop_seconds: Seconds = 0.0
    never_stops: bool = False
    never_starts: bool = False
    dies_on_start: bool = False
    dies_after: Seconds = 0.0
    never_listens: bool = False
    start_error: Annotated[int, Field(ge=0, le=65_535)] = 0
    disabled: bool = False


class SiteFaults(_Part):
    """The faults of the product's site.

    Attributes:
        down: its application pool is stopped: it answers 503.
        login_seconds: life of a login; null is eight hours. logged_out: all logins end once, when the fault begins.
        no_roles: no user has a role that allows syncs.
        catch_all: something else answers in its place, HTTP 200 to everything.
    """

    catch_all: bool = False
    down: bool = False
    login_seconds: Seconds | None = None
    logged_out: bool = False
    no_roles: bool = False


#: What ends a sync and cannot be shown by the state of a simulated server; `lab.product.causes` has the messages.
CauseName = Literal[
    "catalogs",
    "conflict",
    "connection_string",
    "duplicate_server_index",
    "foreign_key",
    "licence",
    "max_index",
    "memory",
    "not_staged",
    "proxy",
    "storage_location",
]


class SyncFaults(_Part):
    """The faults of the service in syncs.

    Attributes:
        seconds: time of each entry in the status; null is the lab's own.
        hangs: a sync does not go on.
        fails: a sync with this server fails, with this cause.
        old_keys: the service has an old key list without the keys of these nodes, until its next start.
        foreign_certificate: the service has loaded a client certificate of another family, until its next start.
        checks_expiry: it refuses client certificates that have expired.
        stale_status: a crash has left a status file; it is there until the fault is cleared, or the file is removed.
        someone_else: a sync that another user has started is in progress in the database.
    """

    seconds: Seconds | None = None
    hangs: bool = False
    fails: CauseName | None = None
    old_keys: tuple[str, ...] = ()
    foreign_certificate: bool = False
    checks_expiry: bool = False
    stale_status: bool = False
    someone_else: bool = False


class Moment(_Part):
    """A moment on a node, defined by an operation.

    Attributes:
        operation: of the agent (`write`), a message of WinRM (`Create`, `Command`, `Send`, `Receive`), or `Sync`: an
            entry in the status of a sync that this node writes; if empty, any operation of the agent.
        target: the target of the operation: a path, service, registry key or host, code of the entry; if empty, any.
        nth: which one of these operations, counted from now; the first is 1.
        after: after the operation and before its reply; else before the operation.
    """

    operation: str = ""
    target: str = ""
    nth: Annotated[int, Field(ge=1)] = 1
    after: bool = False

    def fits(self, operation: str, target: str, *, after: bool) -> bool:
        """Whether the operation counts for this moment."""
        named = self.operation == operation if self.operation else operation.islower()
        return after == self.after and named and self.target.casefold() in {"", target.casefold()}


class Later(_Part):
    """Faults that begin at a moment. Other faults stay as they are.

    Attributes:
        at: the moment. faults: the named ones begin.
        seconds: time after which they end again; null is never.
    """

    at: Moment
    faults: "Faults"
    seconds: Seconds | None = None

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if "later" in self.faults.model_fields_set:
            raise ValueError("`later` cannot contain `later`")
        return self


class Faults(_Part):
    """All current faults of a node; the defaults are a healthy node.

    Attributes:
        away: the node is off the network: WinRM, its sync port and its site do not answer.
        power_cut: away, and all its processes end; when it is over, automatic services start again.
        refuse_connections: WinRM does not listen; the rest of the node works.
        refuse_logons: every logon is answered 401. deny_access: every request is answered with an access denied fault.
        http_errors: the next requests fail.
        reset_replies: this many of the next replies are cut off; the requests were carried out.
        lose_requests: this many of the next requests are cut off and not carried out.
        receive_timeouts: this many of the next Receives time out at once, even if there is output.
        refuse_operations: this many of the next messages are refused: the user has too many open operations.
        forbid_shells: a policy forbids remote shells. restrict_ntlm: a policy ends NTLM after its first message.
        offers: the only logon methods that WinRM offers, such as `Kerberos`; if empty, all that it has.
        latency_ms: delay of every request. powershell_start_ms: delay of every start of PowerShell.
        shell_quota: open shells per user; null is the machine's own quota.
        envelope_kilobytes: the largest message that WinRM accepts; null is the machine's own limit.
        autorun: what cmd.exe prints at each start, without a line end. code_page: of its console;
            null is the machine's own, with texts in UTF-8.
        powershell: what happens instead of its start: `missing`, `blocked` by a policy, `restricted` language mode, or
            the `antivirus` program blocks the agent.
        readonly, locked: paths of files that are read-only, or open in another process.
        denied: paths of folders that the account may not write to, with everything in them.
        clock_skew: seconds the node's clock is ahead.
        no_change_times: its disk does not keep change times, like FAT.
        disk_free: free bytes on its disk; null is unlimited.
        stdin_swallowed: PowerShell reads stdin to its end first, and only a script that uses `$input` sees the lines.
        dies_after_operations: the PowerShell process ends after this many more operations, without a reply. If the
            next operation is a write, half of its bytes are left in a temporary file; of a spread, half of the files
            are complete too. Occurs once.
        hangs: the agent's operations do not end. operation_ms: extra time of each operation.
        service: faults of the product's service. site: faults of its site. sync: of its syncs.
        cut: names of the nodes that this node cannot reach.
        later: faults that begin at a later moment.
    """

    away: bool = False
    power_cut: bool = False
    refuse_connections: bool = False
    refuse_logons: bool = False
    deny_access: bool = False
    http_errors: HttpErrors = HttpErrors()
    reset_replies: Times = 0
    lose_requests: Times = 0
    receive_timeouts: Times = 0
    refuse_operations: Times = 0
    latency_ms: Milliseconds = 0
    powershell_start_ms: Milliseconds = 0
    shell_quota: Annotated[int, Field(ge=0)] | None = None
    forbid_shells: bool = False
    restrict_ntlm: bool = False
    offers: tuple[str, ...] = ()
    envelope_kilobytes: Annotated[int, Field(ge=32, le=2_000_000)] | None = None
    autorun: str = ""
    code_page: Annotated[int, Field(ge=37, le=65_001)] | None = None
    powershell: Literal["", "missing", "blocked", "restricted", "antivirus"] = ""
    readonly: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    clock_skew: float = 0.0
    no_change_times: bool = False
    disk_free: Annotated[int, Field(ge=0)] | None = None
    stdin_swallowed: bool = False
    dies_after_operations: Times | None = None
    hangs: bool = False
    operation_ms: Milliseconds = 0
    service: ServiceFaults = ServiceFaults()
    site: SiteFaults = SiteFaults()
    sync: SyncFaults = SyncFaults()
    cut: tuple[str, ...] = ()
    later: tuple[Later, ...] = ()

    def of_simulated_machines(self) -> list[str]:
        """The current faults that only a simulated machine can have; the others concern network and files."""
        return sorted(_SIMULATED & self.model_dump(exclude_defaults=True).keys())

    def with_those_of(self, other: "Faults") -> Self:
        """These faults, with the ones that `other` names replaced."""
        named = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=named)

    def turned_away(self, method: str) -> tuple[str, ...]:
        """The challenges with which WinRM ends a logon by this method; empty if it accepts the method."""
        if self.restrict_ntlm and method.lower() in {"negotiate", "ntlm"}:
            return ("Negotiate",)
        return () if method.lower() in {"", *map(str.lower, self.offers)} else self.offers

    @property
    def unreachable(self) -> bool:
        """Whether WinRM does not answer."""
        return self.away or self.power_cut or self.refuse_connections
