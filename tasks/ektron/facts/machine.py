"""Facts of the machine: its system, its programs, its network."""

from tasks.ektron.facts.values import Fact

__all__ = ["BinaryFacts", "ProbeFacts", "ReadinessFacts", "SystemFacts"]


class SystemFacts(Fact):
    """What the node reports about itself when a session starts. `free`: drive -> free bytes."""

    powershell: str
    edition: str
    language_mode: str
    clr: str = ""
    os: str = ""
    admin: bool
    code_page: int = 0
    free: dict[str, int] = {}


class ReadinessFacts(Fact):
    """Facts that matter only before anything is set up: WinRM limits, and other programs that write the same files.

    Attributes:
        limits: WinRM settings by name, as `winrm get winrm/config` prints them; empty when they cannot be read.
        limits_problem: why they cannot be read.
        rivals: programs that manage the files of the server, each with the sign that was found.
        rivals_problem: what could not be checked.
        not_editable: why a configuration file cannot be edited, with its path; empty if all can.
        not_editable_remedy: what to do about it.
    """

    limits: dict[str, str] = {}
    limits_problem: str = ""
    rivals: tuple[str, ...] = ()
    rivals_problem: str = ""
    not_editable: str = ""
    not_editable_remedy: str = ""


class BinaryFacts(Fact):
    """One program file. With size and hash, because patches do not always change the version (ektron-facts 1.3)."""

    name: str
    version: str | None = None
    size: int = 0
    hash: str = ""


class ProbeFacts(Fact):
    """Results of network tests from this node. None: not tested.

    Attributes:
        listening_8732: whether a program listens on the sync port of this node.
        reach_8732: other node -> whether this node reaches its sync port.
        ws_url: where the site was asked, by WSPath.
        ws_status: the HTTP status of the answer; 0: no answer.
        ws_problem: why there was no answer.
        ws_catch_all: whether a page that cannot exist is answered with HTTP 200 too, and the answer shows no service.
        ws_addresses: the addresses of the host in WSPath, as this node resolves it; empty for an unknown name.
        own_addresses: the addresses of this node, as it knows them.
    """

    listening_8732: bool | None = None
    reach_8732: dict[str, bool] = {}
    ws_url: str = ""
    ws_status: int | None = None
    ws_problem: str = ""
    ws_catch_all: bool = False
    ws_addresses: tuple[str, ...] | None = None
    own_addresses: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether the network was tested."""
        return self.listening_8732 is not None
