"""The faults of a node as data: set in the configuration or while the lab runs."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["COUNTED", "Faults", "HttpErrors", "Later", "Moment", "ServiceFaults"]

Milliseconds = Annotated[int, Field(ge=0, le=600_000)]
Seconds = Annotated[float, Field(ge=0, le=3600)]
Times = Annotated[int, Field(ge=0)]


_SIMULATED = {
    "away",
    "locked",
    "clock_skew",
    "disk_free",
    "stdin_swallowed",
    "dies_after_operations",
    "hangs",
    "operation_ms",
    "power_cut",
    "service",
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
        disabled: its start type is `disabled`.
    """

    start_seconds: Seconds = 0.0
    stop_seconds: Seconds = 0.0
    never_stops: bool = False
    never_starts: bool = False
    dies_on_start: bool = False
    disabled: bool = False


class Moment(_Part):
    """A moment on a node, defined by an operation.

    Attributes:
        operation: of the agent (`write`), or a message of WinRM (`Create`, `Command`, `Send`, `Receive`); if empty, any
            operation of the agent.
        target: the target of the operation: a path, service, registry key or host; if empty, any.
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
        latency_ms: delay of every request. powershell_start_ms: delay of every start of PowerShell.
        shell_quota: open shells per user; null is the machine's own quota.
        readonly, locked: paths of files that are read-only, or open in another process.
        clock_skew: seconds the node's clock is ahead.
        disk_free: free bytes on its disk; null is unlimited.
        stdin_swallowed: PowerShell reads stdin to its end first, and only a script that uses `$input` sees the lines.
        dies_after_operations: the PowerShell process ends after this many more operations, without a reply. If the
            next operation is a write, half of its bytes are left in a temporary file; of a spread, half of the files
            are complete too. Occurs once.
        hangs: the agent's operations do not end. operation_ms: extra time of each operation.
        service: faults of the product's service.
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
    readonly: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    clock_skew: float = 0.0
    disk_free: Annotated[int, Field(ge=0)] | None = None
    stdin_swallowed: bool = False
    dies_after_operations: Times | None = None
    hangs: bool = False
    operation_ms: Milliseconds = 0
    service: ServiceFaults = ServiceFaults()
    cut: tuple[str, ...] = ()
    later: tuple[Later, ...] = ()

    def of_simulated_machines(self) -> list[str]:
        """The current faults that only a simulated machine can have; the others concern network and files."""
        return sorted(_SIMULATED & self.model_dump(exclude_defaults=True).keys())

    def with_those_of(self, other: "Faults") -> Self:
        """These faults, with the ones that `other` names replaced."""
        named = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=named)

    @property
    def unreachable(self) -> bool:
        """Whether WinRM does not answer."""
        return self.away or self.power_cut or self.refuse_connections
