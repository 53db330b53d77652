"""What a node still lacks: nothing after a successful run. And what follows from it: recycling and restart."""

from collections.abc import Iterable, Iterator

from tasks.ektron.desired.places import file_differences
from tasks.ektron.desired.settings import setting_differences
from tasks.ektron.desired.target import RECYCLED, Difference, Target
from tasks.ektron.facts import FileFacts, NodeFacts, ServiceEvidence

__all__ = [
    "READ_ONLY_REMEDY",
    "differences",
    "read_only",
    "recycling",
    "restart_reason",
    "service_reason",
]

READ_ONLY_REMEDY = "remove the read-only attribute of the file (attrib -r), then retry"


def differences(facts: NodeFacts, target: Target) -> tuple[Difference, ...]:
    """What has to change on a node so that it is joined."""
    found = [*setting_differences(facts, target), *file_differences(facts, target)]
    return (*found, *recycling(facts.asset.file, facts.web.file, {difference.file for difference in found}))


def recycling(asset: FileFacts, web: FileFacts, changed: Iterable[str] = ()) -> Iterator[Difference]:
    """The site reads its asset configuration only when it is recycled: web.config has to be the younger of the two.

    The section is declared restartOnExternalChanges="false" (ektron-facts 2.1).

    Args:
        asset: AssetManagement.config.
        web: web.config.
        changed: paths that are changed besides, with web.config after AssetManagement.config.
    """
    paths = set(changed)
    older = asset.mtime is not None and web.mtime is not None and web.mtime < asset.mtime
    if web.path not in paths and (older or asset.path in paths):
        yield Difference(what=RECYCLED, file=web.path, before="older than AssetManagement.config", after="touched")


def restart_reason(evidence: ServiceEvidence, needed: Iterable[Difference] = ()) -> str:
    """Why the service has to be restarted; empty when it does not (ektron-facts 6, row 30).

    Args:
        evidence: the service as it was seen, and what it reads.
        needed: what is going to change before.
    """
    service = evidence.service
    inputs = [difference for difference in needed if difference.read_at_start]
    if not service.is_up:
        return f"the service was not running ({service.state or 'not installed'})"
    if inputs:
        more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
        return f"the service reads what changes when it starts: {inputs[0].what} in {_name(inputs[0].file)}{more}"
    if service.started is None:
        return "the start time of the service is not known"
    if evidence.restart_owed:
        return (
            f"restart owed: {evidence.newest_input_path} changed at {evidence.newest_input:%Y-%m-%d %H:%M:%S.%f} UTC, "
            f"after the service had started at {service.started:%Y-%m-%d %H:%M:%S.%f} UTC"
        )
    return ""


def service_reason(evidence: ServiceEvidence, needed: Iterable[Difference]) -> str:
    """Why the service, or one that depends on it, has to be started again; empty when none has to.

    Args:
        evidence: the service as it was seen, and what it reads.
        needed: what is going to change before.
    """
    names = ", ".join(evidence.service.left_stopped)
    left = f"{names} was stopped together with the service and not started again" if names else ""
    return restart_reason(evidence, needed) or left


def read_only(node: str) -> str:
    """The message where a file that has to be changed is read-only."""
    return f"{node}: the file is read-only, nothing was written on this node"


def _name(path: str) -> str:
    return path.rpartition("\\")[2]
