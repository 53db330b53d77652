"""Invariants that matter before anything is set up: machines on which a rollout can work at all. For `esync doctor`."""

import re

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import NodeFacts
from tasks.ektron.rules.findings import Invariant, Judged, Severity, Unknown, Violated, each_node
from tasks.ektron.wording import named

__all__ = ["READINESS_RULES", "WINRM_LIMITS"]

_OLDEST_POWERSHELL = (3, 0)
_ENOUGH_BYTES = 256 * 2**20  #: for backups and 6 x N small files; less and Windows itself stumbles

#: WinRM's setting -> the least that a run is at ease with. Zero means no limit for memory.
WINRM_LIMITS = {
    "MaxShellsPerUser": 3,  # one in use, one that a broken session left behind, one to replace it
    "MaxProcessesPerShell": 3,
    "MaxMemoryPerShellMB": 512,  # 150 on Windows Server 2012 R2: PowerShell dies of it
    "MaxConcurrentOperationsPerUser": 20,
    "MaxEnvelopeSizekb": 150,
    "IdleTimeout": 60_000,
}


def _powershell_fit(_: ClusterFacts, facts: NodeFacts) -> Judged:
    if facts.system is None:
        return Unknown("the machine did not say which PowerShell it has")
    numbers = re.match(r"(\d+)\.(\d+)", facts.system.powershell)
    if numbers is None:
        return Unknown(f"PowerShell calls itself {facts.system.powershell[:20]!r}")
    if (int(numbers[1]), int(numbers[2])) < _OLDEST_POWERSHELL:
        return Violated(f"PowerShell is {facts.system.powershell}, 3.0 is the oldest that works")
    if facts.system.language_mode != "FullLanguage":
        return Violated(f"PowerShell's language mode is {facts.system.language_mode}")
    return None


def _administrator(_: ClusterFacts, facts: NodeFacts) -> Judged:
    if facts.system is None:
        return Unknown("the machine did not say which rights the account has")
    return None if facts.system.admin else Violated("the account is no administrator here")


def _disk_free(_: ClusterFacts, facts: NodeFacts) -> Judged:
    """The drives of the site, of the service and of the backups."""
    places = (facts.web.file.path, facts.service_folder, facts.program_data)
    wanted = sorted({place[:2].upper() for place in places if place[1:2] == ":"})
    free = {name[:2].upper(): value for name, value in (facts.system.free if facts.system else {}).items()}
    short = [
        f"{name} has {free[name] // 2**20} MiB free" for name in wanted if free.get(name, _ENOUGH_BYTES) < _ENOUGH_BYTES
    ]
    if short:
        return Violated(f"{', '.join(short)}; {_ENOUGH_BYTES // 2**20} are wanted")
    unseen = [name for name in wanted if name not in free]
    return Unknown(f"the free space of {named(unseen)} is not known") if unseen else None


def _files_writable(_: ClusterFacts, facts: NodeFacts) -> Judged:
    locked = [part.file.path for part in (facts.asset, facts.service_config, facts.web) if part.file.readonly]
    return Violated(f"read-only: {named(locked)}") if locked else None


def _limits(_: ClusterFacts, facts: NodeFacts) -> Judged:
    seen = facts.readiness
    if seen is None or not seen.limits:
        return Unknown((seen.limits_problem if seen else "") or "WinRM's limits were not asked for")
    tight = [
        f"{name} is {seen.limits[name]}, at least {least} is wanted"
        for name, least in WINRM_LIMITS.items()
        if _below(seen.limits.get(name, ""), least)
    ]
    return Violated("; ".join(tight)) if tight else None


def _below(value: str, least: int) -> bool:
    return value.isdecimal() and 0 < int(value) < least


def _no_rivals(_: ClusterFacts, facts: NodeFacts) -> Judged:
    seen = facts.readiness
    if seen is None:
        return Unknown("was not looked for")
    if seen.rivals:
        return Violated(f"{named(seen.rivals)} may write the same files")
    return Unknown(seen.rivals_problem) if seen.rivals_problem else None


READINESS_RULES = (
    Invariant(
        id="node.powershell-fit",
        statement="Each node has PowerShell 3.0 or newer, in full language mode.",
        remedy="install Windows Management Framework 5.1; for another language mode ask who made the AppLocker or "
        "device guard policy to exempt the account",
        source="design 5: the agent runs on Windows PowerShell 3.0 to 5.1 and PowerShell 7",
        decide=each_node(_powershell_fit),
    ),
    Invariant(
        id="node.administrator",
        statement="The account is an administrator on each node.",
        remedy="put the account into the node's local Administrators group; it writes below Program Files and restarts "
        "a service",
        source="ektron-facts 3.5",
        decide=each_node(_administrator),
    ),
    Invariant(
        id="node.disk-free",
        statement=f"The drives of the site, the service and the backups have {_ENOUGH_BYTES // 2**20} MiB free.",
        remedy="make room on that drive; what a rollout replaces is kept below ProgramData",
        source="design 6",
        decide=each_node(_disk_free),
    ),
    Invariant(
        id="config.files-writable",
        statement="None of the configuration files is read-only.",
        remedy="take the read-only attribute off (attrib -r), and find out who set it: source control often does",
        source="procedure: all three files are edited",
        decide=each_node(_files_writable),
    ),
    Invariant(
        id="winrm.limits",
        statement="WinRM's limits leave room for a run.",
        remedy='winrm set winrm/config/winrs @{MaxMemoryPerShellMB="1024"} and its like; a policy may set them too',
        source="Windows Remote Management, quotas",
        decide=each_node(_limits),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="node.competing-managers",
        statement="Nothing else keeps the same files as it wants them.",
        remedy="tell its owners: exempt the site's three configuration files, the service folder and the staging "
        "folder, or make it write the new values",
        source="ektron-facts 6, row 40: an edit that vanishes",
        decide=each_node(_no_rivals),
        severity=Severity.WARNING,
    ),
)
