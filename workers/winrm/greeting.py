"""What a node reports about itself in its first answer (docs/agent-protocol.md, `hello`)."""

from collections.abc import Mapping

from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError

from workers.errors import AgentFailed
from workers.records import SmallRecord
from workers.winrm.operations import Reply

__all__ = ["Drive", "Hello", "hello_of"]


class _Reported(SmallRecord):
    """What a node reports; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)


class Drive(_Reported):
    """A fixed drive of a node; `free` in bytes."""

    name: str
    free: NonNegativeInt


class Hello(_Reported):
    """What a node reports about itself in its first answer.

    Attributes:
        winrm: WinRM's quotas by the names in its configuration; empty if they cannot be read.
    """

    agent: int
    powershell: str
    edition: str
    language_mode: str
    clr: str
    os: str
    computer: str
    admin: bool
    code_page: int
    program_data: str
    system_drive: str
    drives: tuple[Drive, ...] = ()
    winrm: Mapping[str, str] = Field(default_factory=dict)

    def __str__(self) -> str:
        rights = "administrator" if self.admin else "not administrator"
        free = ", ".join(f"{drive.name} {drive.free // 2**20:,} MiB free at logon" for drive in self.drives)
        quotas = ", ".join(f"{name} {self.winrm[name]}" for name in sorted(self.winrm))
        return (
            f"{self.computer}, {self.os}, PowerShell {self.powershell} {self.edition} {self.language_mode}, "
            f".NET {self.clr}, code page {self.code_page}, {rights}, {free}, WinRM {quotas or 'quotas not readable'}"
        )


def hello_of(reply: Reply) -> Hello:
    """The report of a node about itself.

    Raises:
        AgentFailed: a field is missing or has the wrong type.
    """
    fields = {name: value for name, value in reply.items() if value is not None}
    try:
        return Hello.model_validate(fields)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise AgentFailed(f"the reply to {reply.op} has no valid {wrong}", reason=reply.error or "failed") from None
