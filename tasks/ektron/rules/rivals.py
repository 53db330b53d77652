"""Programs that manage the files of a server, and would overwrite what a rollout writes."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["SIGNS", "Sign", "mentioned"]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign that such a program is installed.

    Attributes:
        program: its name, for people.
        place: a file, a folder or the name of a service. `{drive}`, `{data}` (common application data) and `{site}`
            are replaced by the values of the node.
        is_service: whether `place` is the name of a service.
    """

    program: str
    place: str
    is_service: bool = False


SIGNS: tuple[Sign, ...] = (
    Sign("PowerShell DSC", r"{drive}\Windows\System32\Configuration\Current.mof"),
    Sign("PowerShell DSC, a pending configuration", r"{drive}\Windows\System32\Configuration\Pending.mof"),
    Sign("Puppet", "puppet", is_service=True),
    Sign("Puppet", r"{data}\PuppetLabs\puppet\etc\puppet.conf"),
    Sign("Chef", "chef-client", is_service=True),
    Sign("Chef", r"{drive}\chef\client.rb"),
    Sign("Salt", "salt-minion", is_service=True),
    Sign("CFEngine", "CfengineNovaExec", is_service=True),
    Sign("Octopus Tentacle", "OctopusDeploy Tentacle", is_service=True),
    Sign("Octopus Tentacle", r"{data}\Octopus\Tentacle\Instances"),
    Sign("DFS Replication of the site folder", r"{site}\DfsrPrivate"),
    Sign("Web Deploy agent", "MsDepSvc", is_service=True),
)


def mentioned(text: bytes, folders: Iterable[str]) -> bool:
    """Whether a task of the Windows scheduler names one of the folders. Task files are UTF-16, or UTF-8 by older tools.

    Args:
        text: content of the task file.
        folders: absolute paths; empty ones are ignored. Case does not matter.
    """
    decoded = text.decode("utf-16" if text[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8", errors="replace").casefold()
    return any(folder.casefold() in decoded for folder in folders if folder)
