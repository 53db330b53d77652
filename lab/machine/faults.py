"""What goes wrong on a node, as data: given in the configuration, changed while the lab runs, counted as it happens."""

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
#: Faults that happen a number of times, each use making them fewer.
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
    """How the product's service misbehaves.

    Attributes:
        start_seconds, stop_seconds: time spent pending.
        never_stops, never_starts: stays pending. dies_on_start: its process ends while it starts.
        disabled: its start type is `disabled`.
    """

    start_seconds: Seconds = 0.0
    stop_seconds: Seconds = 0.0
    never_stops: bool = False
    never_starts: bool = False
    dies_on_start: bool = False
    disabled: bool = False


class Moment(_Part):
    """A point of time in the life of a node, by what happens on it.

    Attributes:
        operation: of the agent (`write`), or a message of WinRM (`Create`, `Command`, `Send`, `Receive`); any operation
            of the agent when empty.
        target: what it has to be about: a path, a service, a registry key, a host; anything when empty.
        nth: the how manieth of those from now on.
        after: once it is done and before anybody hears of it; else when it is about to be done.
    """

    operation: str = ""
    target: str = ""
    nth: Annotated[int, Field(ge=1)] = 1
    after: bool = False

    def fits(self, operation: str, target: str, *, after: bool) -> bool:
        """Whether this is one of those it counts."""
        named = self.operation == operation if self.operation else operation.islower()
        return after == self.after and named and self.target.casefold() in {"", target.casefold()}


class Later(_Part):
    """Faults that begin at a moment. The others stay as they are.

    Attributes:
        at: when. faults: those named begin.
        seconds: after which they end again, all else being as it was; null is never.
    """

    at: Moment
    faults: "Faults"
    seconds: Seconds | None = None

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if "later" in self.faults.model_fields_set:
            raise ValueError("what begins later must begin by itself")
        return self


class Faults(_Part):
    """Everything that is wrong with a node at present; the defaults are a healthy one.

    Attributes:
        away: the node is off the network: WinRM, its sync port and its site answer nobody.
        power_cut: away, and everything that runs on it ends; once this is over, what starts by itself starts again.
        refuse_connections: WinRM does not listen; the rest of the node is well.
        refuse_logons: every logon is answered 401. deny_access: every request is answered with an access denied fault.
        http_errors: the next requests fail.
        reset_replies: this many of the next replies break off in the middle; what was asked has happened.
        lose_requests: this many of the next requests are cut before anything is done.
        receive_timeouts: this many of the next Receives time out at once, whatever waits to be received.
        refuse_operations: this many of the next messages are refused: the user has too many operations going on.
        latency_ms: every request waits this long. powershell_start_ms: so does every start of PowerShell.
        shell_quota: open shells per user; null is the machine's own quota.
        readonly, locked: paths of files that are read-only, or open in another process.
        clock_skew: seconds the node's clock is ahead.
        disk_free: bytes left on its disk; null is plenty.
        stdin_swallowed: PowerShell takes all of stdin until its end, and only a script that asks for it that way
            (`$input`) gets to see it.
        dies_after_operations: the PowerShell process ends when this many more operations are done, without a reply;
            if the next operation was a write, half of it lies in a temporary file; of a spread half the files are there
            as well. Happens once.
        hangs: the agent's operations do not end while this holds. operation_ms: each takes that long.
        service: how the product's service misbehaves.
        cut: names of nodes this one cannot reach.
        later: what begins at a moment still to come.
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
        """Those of the present faults that only a simulated machine can have; the others are of wire and files."""
        return sorted(_SIMULATED & self.model_dump(exclude_defaults=True).keys())

    def with_those_of(self, other: "Faults") -> Self:
        """These, but the ones that the other names as they are there."""
        named = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=named)

    @property
    def unreachable(self) -> bool:
        """Whether WinRM answers nobody."""
        return self.away or self.power_cut or self.refuse_connections
