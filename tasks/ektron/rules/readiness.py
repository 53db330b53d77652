"""Invariants for `esync doctor`, before anything is set up: can a rollout work on these machines?"""

import re

from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import Invariant, Judged, Unknown, Violated, each_node, warning
from tasks.ektron.wording import named

__all__ = ["READINESS_RULES", "WINRM_LIMITS"]

_OLDEST_POWERSHELL = (3, 0)
_MIB = 2**20  #: bytes
_ENOUGH_BYTES = 256 * _MIB  #: for backups and 6 x N small files; with less free space Windows itself has problems

#: WinRM setting -> the lowest value with which a run works reliably. Zero means no limit for memory.
WINRM_LIMITS = {
    "MaxShellsPerUser": 3,  # one in use, one left by a broken session, one to replace it
    "MaxProcessesPerShell": 3,
    "MaxMemoryPerShellMB": 512,  # 150 on Windows Server 2012 R2 makes PowerShell crash
    "MaxConcurrentOperationsPerUser": 20,
    "MaxEnvelopeSizekb": 500,  # with the 150 of WinRM 2.0, requests are cut into many small messages
    "IdleTimeout": 60_000,
}


def _powershell_fit(facts: NodeFacts) -> Judged:
    if facts.system is None:
        return Unknown("the machine did not report its PowerShell version")
    numbers = re.match(r"(\d+)\.(\d+)", facts.system.powershell)
    if numbers is None:
        return Unknown(f"PowerShell reported the version {facts.system.powershell[:20]!r}")
    if (int(numbers[1]), int(numbers[2])) < _OLDEST_POWERSHELL:
        clr = f"CLR {facts.system.clr}" if facts.system.clr else ""
        about = ", ".join(filter(None, (facts.system.edition, clr, facts.system.os)))
        return Violated(f"the PowerShell version is {facts.system.powershell} ({about}), at least 3.0 is required")
    if facts.system.language_mode != "FullLanguage":
        return Violated(f"the PowerShell language mode is {facts.system.language_mode}")
    return None


def _editable(facts: NodeFacts) -> Judged:
    if facts.readiness is None:
        return Unknown("was not tried")
    why, remedy = facts.readiness.not_editable, facts.readiness.not_editable_remedy
    return Violated(why, remedy) if why else None


def _administrator(facts: NodeFacts) -> Judged:
    if facts.system is None:
        return Unknown("the machine did not report the rights of the account")
    return None if facts.system.admin else Violated("the account is not an administrator on this node")


def _disk_free(facts: NodeFacts) -> Judged:
    """Checks the drives of the site, the service and the backups."""
    places = (facts.web.file.path, facts.service_folder, facts.program_data)
    drives = sorted({place[:2].upper() for place in places if place[1:2] == ":"})
    free = {name[:2].upper(): size for name, size in (facts.system.free if facts.system else {}).items()}
    low = [
        f"{drive} has {free[drive] // _MIB} MiB free"
        for drive in drives
        if free.get(drive, _ENOUGH_BYTES) < _ENOUGH_BYTES
    ]
    if low:
        return Violated(f"{', '.join(low)}; {_ENOUGH_BYTES // _MIB} are required")
    unseen = [drive for drive in drives if drive not in free]
    return Unknown(f"the free space of {named(unseen)} is unknown") if unseen else None


def _files_writable(facts: NodeFacts) -> Judged:
    """Also the EWSUpdates copy on the origin, which is edited too."""
    locked = facts.readonly_configurations
    return Violated(f"read-only: {named(locked)}") if locked else None


def _limits(facts: NodeFacts) -> Judged:
    seen = facts.readiness
    if seen is None or not seen.limits:
        return Unknown((seen.limits_problem if seen else "") or "the WinRM limits were not read")
    low = [
        f"{name} is {seen.limits[name]}, at least {least} is required"
        for name, least in WINRM_LIMITS.items()
        if _below(seen.limits.get(name, ""), least)
    ]
    return Violated("; ".join(low)) if low else None


def _below(value: str, least: int) -> bool:
    return value.isdecimal() and 0 < int(value) < least


def _no_rivals(facts: NodeFacts) -> Judged:
    seen = facts.readiness
    if seen is None:
        return Unknown("was not checked")
    if seen.rivals:
        return Violated(f"{named(seen.rivals)} may write the same files")
    return Unknown(seen.rivals_problem) if seen.rivals_problem else None


def _can_start(facts: NodeFacts) -> Judged:
    return Violated(f"the service {facts.service.name} is disabled") if facts.service.is_disabled else None


READINESS_RULES = (
    Invariant(
        id="node.powershell-fit",
        statement="Each node has PowerShell 3.0 or newer, in full language mode.",
        remedy="install Windows Management Framework 5.1; for another language mode, ask the owner of the AppLocker or "
        "Device Guard policy to exempt the account",
        source="design 5: the agent runs on Windows PowerShell 3.0 to 5.1 and PowerShell 7",
        decide=each_node(_powershell_fit),
        reads=("system",),
        proves="PowerShell reports version 3.0 or newer and the language mode FullLanguage",
        cannot_know="whether a policy blocks single commands",
    ),
    Invariant(
        id="node.administrator",
        statement="The account is an administrator on each node.",
        remedy="add the account to the local Administrators group of the node; it writes below Program Files and "
        "restarts a service. A local account that is in it needs LocalAccountTokenFilterPolicy 1, too",
        source="ektron-facts 3.5",
        decide=each_node(_administrator),
        reads=("system",),
        proves="the session of the account has the administrator's rights",
        cannot_know="whether a policy denies the account a single folder or the service",
    ),
    Invariant(
        id="node.disk-free",
        statement=f"The drives of the site, the service and the backups have {_ENOUGH_BYTES // _MIB} MiB free.",
        remedy="free space on that drive; a rollout keeps backups of replaced files below ProgramData",
        source="design 6",
        decide=each_node(_disk_free),
        reads=("system", "web.file", "service_folder", "program_data"),
        proves="each drive reports enough free space",
        cannot_know="quotas of the account or of a folder",
    ),
    Invariant(
        id="config.files-writable",
        statement="None of the configuration files is read-only.",
        remedy="remove the read-only attribute (attrib -r), and find out what sets it: source control often does",
        source="procedure: all three files are edited",
        decide=each_node(_files_writable),
        reads=(
            "asset.file",
            "service_config.file",
            "service_config.included",
            "web.file",
            "web.included",
            "ews.file",
            "ews.included",
        ),
        proves="none of the files has the read-only attribute",
        cannot_know="the access rights of the files",
    ),
    Invariant(
        id="config.files-editable",
        statement="Each configuration file can be edited without touching anything else in it.",
        remedy="make the file as the product writes it",
        source="design 6: what is written to a node",
        decide=each_node(_editable),
        reads=("readiness",),
        proves="the edits of a rollout were tried on what was read from the node, and nothing was written",
        cannot_know="whether the service accepts the edited file",
    ),
    Invariant(
        id="service.not-disabled",
        statement="The Windows service is disabled on no node: a rollout restarts it.",
        remedy="set its start type to automatic (sc config NAME start= auto)",
        source="procedure, service config step 5",
        decide=each_node(_can_start),
        reads=("service",),
        proves="the start type of the service is not `disabled`",
        cannot_know="whether the start succeeds: the password of its account may have changed since the last one",
    ),
    warning(
        id="winrm.limits",
        statement="The WinRM limits are high enough for a run.",
        remedy='raise the limit, such as winrm set winrm/config/winrs @{MaxMemoryPerShellMB="1024"}, or winrm set '
        'winrm/config @{MaxEnvelopeSizekb="500"}; a group policy may set it too',
        source="Windows Remote Management, quotas",
        decide=each_node(_limits),
        reads=("readiness",),
        proves="each limit that `winrm get winrm/config` shows is high enough, or there is none",
        cannot_know="limits that the tool does not show",
    ),
    warning(
        id="node.competing-managers",
        statement="No other program manages the same files.",
        remedy="inform its owners: exempt the three configuration files of the site, the service folder and the "
        "staging folder, or change it to write the new values",
        source="ektron-facts 6, row 40: an edit that vanishes",
        decide=each_node(_no_rivals),
        reads=("readiness",),
        proves="no service, folder or scheduled task of a known program was found that manages these files",
        cannot_know="programs that leave none of the known signs, such as a central tool that copies files from "
        "outside",
    ),
)
