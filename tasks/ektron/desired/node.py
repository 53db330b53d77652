"""What a node still lacks: nothing after a successful run. And what follows from it: recycling and restart."""

from collections.abc import Collection, Iterable, Iterator

from tasks.ektron.desired.places import file_differences
from tasks.ektron.desired.settings import setting_differences
from tasks.ektron.desired.target import RECYCLED, Difference, Target
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.service import ServiceEvidence, ServiceFacts
from tasks.ektron.facts.values import FileFacts
from tasks.ektron.rules.findings import InvariantState
from tasks.ektron.rules.loaded import loaded

__all__ = [
    "DISABLED_REMEDY",
    "READ_ONLY_REMEDY",
    "differences",
    "disabled",
    "read_only",
    "recycling",
    "restart_reason",
    "service_reason",
]

_WORDS = {
    InvariantState.REFUTED: "restart owed",
    InvariantState.UNKNOWN: "restarted once, because it is not known what the service has loaded",
}
DISABLED_REMEDY = "set the start type of the service to automatic (sc config NAME start= auto), then retry"
READ_ONLY_REMEDY = "remove the read-only attribute of the file (attrib -r), then retry"


def differences(facts: NodeFacts, target: Target) -> tuple[Difference, ...]:
    """What has to change on a node so that it is joined."""
    found = [*setting_differences(facts, target), *file_differences(facts, target)]
    changed = {difference.file for difference in found}
    return (*found, *recycling([facts.asset.file, *facts.web.included], facts.web.file, changed))


def recycling(read_once: Iterable[FileFacts], web: FileFacts, changed: Collection[str] = ()) -> Iterator[Difference]:
    """Some files are read only when the site is recycled: web.config has to be the youngest of them.

    The sections DocumentManagerData and appSettings are declared restartOnExternalChanges="false", the latter by .NET
    itself (ektron-facts 2.1).

    Args:
        read_once: AssetManagement.config, and the files that web.config includes.
        web: web.config.
        changed: paths that are changed besides, web.config as the last of them.
    """
    if web.path in changed:
        return
    for file in read_once:
        older = file.mtime is not None and web.mtime is not None and web.mtime < file.mtime
        if older or file.path in changed:
            yield Difference(what=RECYCLED, file=web.path, before=f"older than {_name(file.path)}", after="touched")
            return


def restart_reason(evidence: ServiceEvidence, needed: Iterable[Difference] = (), *, retired: bool = False) -> str:
    """Why the service has to be restarted; empty when it does not (ektron-facts 6, row 30).

    Args:
        evidence: the service as it was seen, and what it reads.
        needed: what is going to change before.
        retired: the node leaves the cluster: a service that is stopped has nothing loaded, and stays so.
    """
    service = evidence.service
    if retired and service.state == "stopped":
        return ""
    inputs = [difference for difference in needed if difference.read_at_start]
    if not service.is_up:
        return f"the service was not running ({service.state or 'not installed'})"
    if inputs:
        more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
        return f"the service reads what changes when it starts: {inputs[0].what} in {_name(inputs[0].file)}{more}"
    answer = loaded(evidence)
    return "" if answer.verdict is InvariantState.PROVEN else f"{_WORDS[answer.verdict]}: {answer.why}"


def service_reason(evidence: ServiceEvidence, needed: Iterable[Difference], *, retired: bool = False) -> str:
    """Why the service, or one that depends on it, has to be started again; empty when none has to.

    Args:
        evidence: the service as it was seen, and what it reads.
        needed: what is going to change before.
        retired: as for `restart_reason`.
    """
    names = ", ".join(evidence.service.left_stopped)
    left = f"{names} was stopped together with the service and not started again" if names else ""
    return restart_reason(evidence, needed, retired=retired) or left


def read_only(node: str) -> str:
    """The message where a file that has to be changed is read-only."""
    return f"{node}: the file is read-only, nothing was written on this node"


def disabled(node: str, service: ServiceFacts) -> str:
    """The message where a service has to be restarted, and could be stopped, but not started again."""
    return f"{node}: the service {service.name} is disabled: it has to be restarted, and Windows would not start it"


def _name(path: str) -> str:
    return path.rpartition("\\")[2]
