"""Observes the Windows service and what it reads when it starts: the evidence of a restart that is owed."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from tasks.cluster import Cluster
from tasks.ektron.config.sections import included_path
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.editions import Layout
from tasks.ektron.facts.configuration import IncludedFile
from tasks.ektron.facts.service import ServiceEvidence, ServiceFacts
from tasks.observe import start_record, stopped_dependents
from tasks.observe.family_folder import FamilyFolder, folder_question
from tasks.step import Work
from workers.errors import AgentFailed
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = [
    "REQUIRED",
    "leave_evidence",
    "left_evidence",
    "service_evidence",
    "service_of",
    "service_questions",
]

_FRESH = 30.0  #: seconds for which the answers that came with the last change are taken for what is there
_SERVICE, _FOLDER, _LEFT_STOPPED, _START_RECORD = "service", "service folder", "left stopped", "start record"
_ABSENT = "absent"
#: The questions without whose answers there is no evidence.
REQUIRED = (_SERVICE, ConfigFile.ASSET.stat, ConfigFile.SERVICE.stat, _FOLDER)


def service_questions(
    cluster: Cluster, layout: Layout, own_folder: str, included: Iterable[IncludedFile] = ()
) -> dict[str, Op]:
    """What is asked of the node, by name: the service, the files that it reads, our notes, the clock.

    Args:
        cluster: the node's.
        layout: where the product is on the node.
        own_folder: ours on the node.
        included: the files that the service's configuration includes, where they are not asked for besides.
    """
    stats = {
        ConfigFile.SERVICE.stat_of(file.name): ops.stat(file.path, hashes=True, change_times=True) for file in included
    }
    return stats | {
        "clock": ops.clock(),
        _SERVICE: ops.service(layout.service_name),
        ConfigFile.ASSET.stat: ops.stat(layout.asset_config, hashes=True, change_times=True),
        ConfigFile.SERVICE.stat: ops.stat(layout.service_config, hashes=True, change_times=True),
        _FOLDER: folder_question(cluster, layout.service_folder, change_times=True),
        _LEFT_STOPPED: stopped_dependents.question(own_folder),
        _START_RECORD: start_record.question(own_folder),
    }


def leave_evidence(work: Work, answers: Mapping[str, Reply]) -> None:
    """Leaves the answers to `service_questions`, which came with the last change, for the next step on the node."""
    work.session.leave(_name_of(work), answers, _FRESH)


def left_evidence(work: Work) -> Mapping[str, Reply] | None:
    """The answers that the step before has left, in this run and session; None if anything came between."""
    left = work.session.found(_name_of(work))
    return left if isinstance(left, dict) else None


def _name_of(work: Work) -> str:
    return f"service evidence of {work.run}"


def service_evidence(cluster: Cluster, layout: Layout, answers: Mapping[str, Reply]) -> ServiceEvidence:
    """The facts in the answers to `service_questions`.

    Raises:
        AgentFailed: the service cannot be queried.
        NodeRefused: the note of stopped services cannot be understood.
    """
    files, certificates = _configurations(layout, answers), FamilyFolder.of(answers[_FOLDER], cluster)
    modified, modified_path = _newest(layout, files, certificates, "mtime")
    changed, changed_path = _newest(layout, files, certificates, "ctime")
    clock = answers["clock"].get("now")
    return ServiceEvidence(
        service=_service(layout.service_name, answers),
        clock=ops.time_of(clock) if clock else None,
        newest_input=modified,
        newest_input_path=modified_path,
        newest_change=changed,
        newest_change_path=changed_path,
        asked="change times",
        inputs=_inputs(layout, answers, files, certificates),
        start_record=start_record.record_in(answers[_START_RECORD]),
    )


def _service(name: str, answers: Mapping[str, Reply]) -> ServiceFacts:
    reply = answers[_SERVICE]
    if not reply.ok:
        if reply.error == "not_found":
            return ServiceFacts(name=name)
        raise AgentFailed(f"the service {name} cannot be queried: {reply.message}")
    left = stopped_dependents.names_in(answers[_LEFT_STOPPED])
    return service_of(name, reply).model_copy(update={"left_stopped": left})


def service_of(name: str, reply: Reply) -> ServiceFacts:
    """The service in the reply to a query."""
    return ServiceFacts(
        name=name,
        installed=True,
        state=reply["state"],
        start_type=reply["start_type"],
        pid=reply["pid"],
        started=ops.time_of(str(reply["started"])) if reply.get("started") else None,
        image_path=reply["image_path"],
        dependents=tuple(reply["dependents"]),
    )


def _configurations(layout: Layout, answers: Mapping[str, Reply]) -> dict[str, Reply]:
    """The configurations that the service reads when it starts, as far as they exist: path -> times and hash."""
    paths = {layout.asset_config: ConfigFile.ASSET.stat, layout.service_config: ConfigFile.SERVICE.stat}
    paths |= _included(layout, answers)
    return {path: answers[question] for path, question in paths.items() if answers[question].get("exists")}


def _included(layout: Layout, answers: Mapping[str, Reply]) -> dict[str, str]:
    """The files that the service's configuration includes: path -> question for its state (ektron-facts 10)."""
    before, _, after = ConfigFile.SERVICE.stat_of("\0").partition("\0")
    names = [one[len(before) : -len(after)] for one in answers if one.startswith(before) and one.endswith(after)]
    return {included_path(layout.service_config, name): ConfigFile.SERVICE.stat_of(name) for name in names}


def _newest(
    layout: Layout, files: Mapping[str, Reply], certificates: FamilyFolder, kind: str
) -> tuple[datetime | None, str]:
    """The latest of these times, and the file that has it; None if one file has none."""
    texts: dict[str, str | None] = {
        f"{layout.service_folder}\\{name}": text for name, text in certificates.times(kind).items()
    }
    texts |= {path: file.get(kind) for path, file in files.items()}
    if not all(texts.values()):
        return None, ""
    times = {path: ops.time_of(str(text)) for path, text in texts.items()}
    path = max(times, key=lambda one: times[one], default="")
    return times.get(path), path


def _inputs(
    layout: Layout, answers: Mapping[str, Reply], files: Mapping[str, Reply], certificates: FamilyFolder
) -> dict[str, str]:
    """Path -> hash of each configuration, and one digest of all certificates; empty if a hash is missing."""
    hashes = {path: str(file.get("hash") or "") for path, file in files.items()}
    digest = certificates.digest(layout.service_folder)
    if not answers[_FOLDER].ok or answers[_FOLDER].get("truncated") or not digest or not all(hashes.values()):
        return {}
    configurations = [layout.asset_config, layout.service_config, *_included(layout, answers)]
    named = {path: hashes.get(path, _ABSENT) for path in configurations}
    return {path.casefold(): value for path, value in {**named, f"{layout.service_folder}\\*_Sync*": digest}.items()}
