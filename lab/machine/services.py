"""Windows services as the service control manager shows them: states, times, pending transitions, faults.

A transition has a due time and is completed at the next access after it (`settle`). In an event loop it is also
completed on time, so that a port opens without an access.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import fold

__all__ = ["CONTROL_ERRORS", "Program", "ProgramDied", "Service", "ServiceState", "Services", "StartType"]

_LONGEST_POLL = 0.25
_DENIED, _DISABLED, _ENDED = 5, 1058, 1067
#: The system's numbers for a start that fails, and what they say.
CONTROL_ERRORS = {
    2: "The program of the service does not exist",
    _DENIED: "Access is denied",
    1053: "The service did not respond to the start in time",
    _DISABLED: "The service is disabled",
    _ENDED: "The process ended unexpectedly",
    1068: "A service that it depends on did not start",
    1069: "The logon of the service's account failed",
}


class ServiceState(StrEnum):
    """What the service control manager reports."""

    STOPPED = "stopped"
    START_PENDING = "start_pending"
    STOP_PENDING = "stop_pending"
    RUNNING = "running"
    PAUSED = "paused"


class StartType(StrEnum):
    """When a service starts."""

    AUTO = "auto"
    MANUAL = "manual"
    DISABLED = "disabled"


class ProgramDied(Exception):
    """The program of the service ended during its start."""


class Program(Protocol):
    """The program of a service."""

    def start(self) -> None:
        """Called when the service reaches `running`.

        Raises:
            ProgramDied: the start failed.
        """

    def stop(self) -> None:
        """Called when its process has ended for any reason."""


@dataclass
class Service:
    """One service. Tests and faults may change its durations and flags at any time.

    Attributes:
        image_path: as in the registry, with quotes if it contains spaces.
        started: start time of its process by the machine's clock, in nanoseconds; 0 without a process.
        start_seconds: time in `start_pending`. stop_seconds: in `stop_pending`.
        never_stops: stays in `stop_pending`. never_starts: stays in `start_pending`.
        dies_on_start: its process ends before it runs. dies_after: it ends that many seconds after its start; 0: never.
        start_error: the system refuses its start with this error (`CONTROL_ERRORS`); 0: it does not.
        never_listens: it runs, but its program never gets to work.
        exit_code: error of its last process; 0 if it runs, or was stopped.
        history: (what, machine time in nanoseconds) of each `start`, `stop` and `died`.
    """

    name: str
    display: str
    image_path: str
    clock: Callable[[], int]
    new_pid: Callable[[], int]
    start_type: StartType = StartType.AUTO
    depends_on: tuple[str, ...] = ()
    program: Program | None = None
    start_seconds: float = 0.0
    stop_seconds: float = 0.0
    never_stops: bool = False
    never_starts: bool = False
    dies_on_start: bool = False
    dies_after: float = 0.0
    start_error: int = 0
    never_listens: bool = False
    exit_code: int = 0
    pid: int = 0
    started: int = 0
    history: list[tuple[str, int]] = field(default_factory=list)
    _state: ServiceState = ServiceState.STOPPED
    _due: float = 0.0

    def state(self) -> ServiceState:
        """The current state, after all due transitions."""
        self.settle()
        return self._state

    def count(self, what: str) -> int:
        """The number of `start`, `stop` or `died` events."""
        return sum(1 for event, _ in self.history if event == what)

    def request_start(self) -> None:
        """Asks a stopped service to start.

        Raises:
            Refusal: `failed` if it is disabled, or the system refuses it.
        """
        if code := _DISABLED if self.start_type is StartType.DISABLED else self.start_error:
            slug = Slug.ACCESS_DENIED if code == _DENIED else Slug.FAILED
            text = CONTROL_ERRORS.get(code, "Unknown error")
            raise Refusal(slug, f"the service {self.name} cannot be started: {text} (error {code})", code=code)
        self.pid, self.started, self.exit_code = self.new_pid(), self.clock(), 0
        self._begin(ServiceState.START_PENDING, self.start_seconds)

    def request_stop(self) -> None:
        """Asks a running service to stop."""
        self._begin(ServiceState.STOP_PENDING, self.stop_seconds)

    def die(self) -> None:
        """Its process ends unexpectedly."""
        if self.pid:
            self._end("died")

    def settle(self) -> None:
        """Completes a transition that is due."""
        if self._state is ServiceState.START_PENDING and not self.never_starts and time.monotonic() >= self._due:
            self._arrive()
        elif self._state is ServiceState.STOP_PENDING and not self.never_stops and time.monotonic() >= self._due:
            self._end("stop")
        elif self._state is ServiceState.RUNNING and self.dies_after and time.monotonic() >= self._due:
            self._end("died")

    def _begin(self, state: ServiceState, seconds: float) -> None:
        self._state, self._due = state, time.monotonic() + seconds
        if seconds <= 0:
            self.settle()
            return
        self._settle_in(seconds)

    def _settle_in(self, seconds: float) -> None:
        try:
            asyncio.get_running_loop().call_later(seconds + 0.001, self.settle)
        except RuntimeError:
            return  # no event loop: the next access completes it

    def _arrive(self) -> None:
        if self.dies_on_start or not self._program_starts():
            self._end("died")
            return
        self._state, self._due = ServiceState.RUNNING, time.monotonic() + self.dies_after
        if self.dies_after:
            self._settle_in(self.dies_after)
        self.history.append(("start", self.started))

    def _program_starts(self) -> bool:
        try:
            if self.program and not self.never_listens:
                self.program.start()
        except ProgramDied:
            return False
        return True

    def _end(self, what: str) -> None:
        self._state, self.pid, self.started = ServiceState.STOPPED, 0, 0
        self.exit_code = _ENDED if what == "died" else 0
        self.history.append((what, self.clock()))
        if self.program:
            self.program.stop()


class Services:
    """The services of one machine by name, ignoring case."""

    def __init__(self) -> None:
        self._all: dict[str, Service] = {}

    def add(self, service: Service) -> Service:
        """Installs a service."""
        self._all[fold(service.name)] = service
        return service

    def __iter__(self) -> Iterator[Service]:
        return iter(self._all.values())

    def get(self, name: str) -> Service:
        """The service with the name.

        Raises:
            Refusal: `not_found`.
        """
        if service := self._all.get(fold(name)):
            return service
        raise Refusal(Slug.NOT_FOUND, f"there is no service named {name}")

    def running_dependents(self, service: Service) -> list[str]:
        """Names of the services that depend on this one and are not stopped."""
        return sorted(
            other.name
            for other in self._all.values()
            if fold(service.name) in map(fold, other.depends_on) and other.state() is not ServiceState.STOPPED
        )

    async def stop(self, service: Service, deadline: float) -> bool:
        """Stops a service and waits; returns whether it was running.

        Raises:
            Refusal: `failed` while dependents run, `timeout` with the current state.
        """
        end = time.monotonic() + deadline
        await _leave(service, ServiceState.START_PENDING, end)
        if service.state() is ServiceState.STOPPED:
            return False
        if running := self.running_dependents(service):
            raise Refusal(Slug.FAILED, f"services that depend on {service.name} are running: {', '.join(running)}")
        if service.state() is not ServiceState.STOP_PENDING:
            service.request_stop()
        await _leave(service, ServiceState.STOP_PENDING, end)
        return True

    async def start(self, service: Service, deadline: float) -> bool:
        """Starts a service and waits; returns whether it was stopped.

        Raises:
            Refusal: `failed` if it is disabled or its process ends, `timeout` with the current state.
        """
        end = time.monotonic() + deadline
        await _leave(service, ServiceState.STOP_PENDING, end)
        if service.state() is ServiceState.RUNNING:
            return False
        if service.state() is ServiceState.STOPPED:
            service.request_start()
        await _leave(service, ServiceState.START_PENDING, end)
        if service.state() is not ServiceState.RUNNING:
            why = (
                f"the process of {service.name} ended while it was starting: {CONTROL_ERRORS[_ENDED]} (error {_ENDED})"
            )
            raise Refusal(Slug.FAILED, why, code=_ENDED)
        return True


async def _leave(service: Service, state: ServiceState, end: float) -> None:
    pause = 0.01
    while service.state() is state:
        left = end - time.monotonic()
        if left <= 0:
            raise Refusal(Slug.TIMEOUT, f"the service {service.name} is still {state.value} at the deadline")
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_POLL)
