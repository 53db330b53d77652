"""What goes wrong on a node, as data: given in the configuration, changed while the lab runs, counted as it happens."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Condition", "Counters", "Faults", "HttpErrors", "ServiceFaults"]

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
    "service",
    "cut",
}


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


class Faults(_Part):
    """Everything that is wrong with a node at present; the defaults are a healthy one.

    Attributes:
        away: the node is off the network: WinRM, its sync port and its site answer nobody.
        refuse_connections: WinRM does not listen; the rest of the node is well.
        refuse_logons: every logon is answered 401. deny_access: every request is answered with an access denied fault.
        http_errors: the next requests fail.
        reset_replies: this many of the next replies break off in the middle; what was asked has happened.
        lose_requests: this many of the next requests are cut before anything is done.
        receive_timeouts: this many of the next Receives time out at once, whatever waits to be received.
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
        service: how the product's service misbehaves.
        cut: names of nodes this one cannot reach.
    """

    away: bool = False
    refuse_connections: bool = False
    refuse_logons: bool = False
    deny_access: bool = False
    http_errors: HttpErrors = HttpErrors()
    reset_replies: Times = 0
    lose_requests: Times = 0
    receive_timeouts: Times = 0
    latency_ms: Milliseconds = 0
    powershell_start_ms: Milliseconds = 0
    shell_quota: Annotated[int, Field(ge=0)] | None = None
    readonly: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    clock_skew: float = 0.0
    disk_free: Annotated[int, Field(ge=0)] | None = None
    stdin_swallowed: bool = False
    dies_after_operations: Times | None = None
    service: ServiceFaults = ServiceFaults()
    cut: tuple[str, ...] = ()

    def of_simulated_machines(self) -> list[str]:
        """Those of the present faults that only a simulated machine can have; the others are of wire and files."""
        return sorted(_SIMULATED & self.model_dump(exclude_defaults=True).keys())


@dataclass
class Counters:
    """What happened on a node since the lab started.

    Attributes:
        round_trips: HTTP requests answered, those for a logon included.
        operations: of the agent, by name.
    """

    logons_tried: int = 0
    logons_refused: int = 0
    round_trips: int = 0
    shells_opened: int = 0
    powershell_starts: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)


@dataclass
class Condition:
    """The present faults of a node and how much of those that count down is left."""

    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    http_errors: int = 0
    reset_replies: int = 0
    lose_requests: int = 0
    receive_timeouts: int = 0
    operations_left: int | None = None

    def set(self, faults: Faults) -> None:
        """Replaces all faults; everything that counts down starts anew."""
        self.faults = faults
        self.http_errors = faults.http_errors.times
        self.reset_replies = faults.reset_replies
        self.lose_requests = faults.lose_requests
        self.receive_timeouts = faults.receive_timeouts
        self.operations_left = faults.dies_after_operations

    def happens(self, what: Literal["http_errors", "reset_replies", "lose_requests", "receive_timeouts"]) -> bool:
        """Whether one of the remaining occurrences is due now; uses it up."""
        left: int = getattr(self, what)
        if left:
            setattr(self, what, left - 1)
        return left > 0

    async def wait(self) -> None:
        """The node's latency."""
        if self.faults.latency_ms:
            await asyncio.sleep(self.faults.latency_ms / 1000)
