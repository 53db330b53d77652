"""Facts of the Windows service, and the evidence of a restart that is owed (ektron-facts 1.1)."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from tasks.ektron.facts.values import Fact

__all__ = ["ServiceEvidence", "ServiceFacts", "StartRecord"]

_Text = Annotated[str, Field(max_length=1024)]


class ServiceFacts(Fact):
    """The Windows service (ektron-facts 1.1). Times are from the clock of the node, in UTC."""

    name: str
    installed: bool = False
    state: str = ""
    start_type: str = ""
    pid: int = 0
    started: AwareDatetime | None = None
    image_path: str = ""
    dependents: tuple[str, ...] = ()
    left_stopped: tuple[str, ...] = ()  #: services that an interrupted run stopped together with it

    @property
    def is_up(self) -> bool:
        """Whether the service is running or starting."""
        return self.state in {"running", "start_pending"}

    @property
    def is_disabled(self) -> bool:
        """Whether Windows refuses to start it; a process that runs is not ended by it."""
        return self.start_type == "disabled"


class StartRecord(Fact):
    """Our note on the node about one process of the service. A process is its id and its start time.

    Attributes:
        loaded: path -> hash of what the process loaded when it started; None: it has not loaded what is there, because
            we changed that while the process was running.
    """

    service: _Text
    pid: int
    started: AwareDatetime | None
    loaded: Annotated[dict[_Text, _Text], Field(max_length=100)] | None

    def is_about(self, service: ServiceFacts) -> bool:
        """Whether it is about the present process of that service."""
        same_name = self.service.casefold() == service.name.casefold()
        return same_name and bool(self.pid) and (self.pid, self.started) == (service.pid, service.started)


class ServiceEvidence(Fact):
    """The facts that decide whether the Windows service must be restarted. Times are from the clock of the node.

    Attributes:
        clock: the time when it was observed.
        newest_input: latest modification time of the files that the service reads when it starts; programs can set it.
        newest_change: latest change time of these files (of content, name, attributes), which only the file system
            sets; None if one of them has none.
        asked: which times were asked for; older versions asked for modification times only, and took them as proof.
        inputs: path -> hash of these files; one digest for all certificate files. Empty if one cannot be read.
        start_record: our note; None if there is none.
    """

    service: ServiceFacts
    clock: AwareDatetime | None = None
    newest_input: AwareDatetime | None = None
    newest_input_path: str = ""
    newest_change: AwareDatetime | None = None
    newest_change_path: str = ""
    asked: Literal["modification times", "change times"] = "modification times"
    inputs: dict[str, str] = {}
    start_record: StartRecord | None = None
