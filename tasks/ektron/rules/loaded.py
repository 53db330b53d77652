"""Has the service loaded the files that are there? By our record of its start, else by times.

Times are weaker: clocks are set, and copying programs set modification times back. Where they leave it open, the answer
is unknown, and a rollout restarts the service once: after that there is a record.
"""

from dataclasses import dataclass
from datetime import datetime

from tasks.ektron.facts.service import ServiceEvidence, StartRecord
from tasks.ektron.rules.findings import InvariantState

__all__ = ["Loaded", "loaded", "unrecorded"]

_TIME = "%Y-%m-%d %H:%M:%S.%f UTC"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Whether the running process has loaded the files that are there: proven by a witness, or why not."""

    verdict: InvariantState
    why: str


def loaded(evidence: ServiceEvidence) -> Loaded:
    """Decides it for a service that is up (ektron-facts 6, row 30).

    Args:
        evidence: the service, what it reads, and the node's clock, all observed together.
    """
    return _by_fitting_record(evidence) or _by_times(evidence)


def unrecorded(evidence: ServiceEvidence) -> bool:
    """Whether change times prove what the process has loaded, and no record says it: a record can be made of it now.

    What is only probable is never recorded, because a record outlives every doubt.
    """
    if not (evidence.service.state == "running" and evidence.service.pid and evidence.inputs):
        return False
    by_change_times = evidence.newest_change is not None and _by_times(evidence).verdict is InvariantState.PROVEN
    return by_change_times and _by_fitting_record(evidence) is None


def _by_fitting_record(evidence: ServiceEvidence) -> Loaded | None:
    """None if there is no record of this process, or it does not say what the process has loaded."""
    record = evidence.start_record
    return _by_record(evidence, record) if record and record.is_about(evidence.service) else None


def _by_record(evidence: ServiceEvidence, record: StartRecord) -> Loaded | None:
    """None if the record does not say what the process loaded, or a file cannot be compared with it."""
    process = f"process {record.pid}"
    if record.loaded is None:
        return _refuted(f"{process} of the service was running when esync changed what it reads")
    # A process whose start time is unknown is only an id, which the system uses again.
    if record.started is None or not record.loaded or not evidence.inputs:
        return None
    paths = sorted(record.loaded.keys() | evidence.inputs.keys())
    different = [path for path in paths if record.loaded.get(path) != evidence.inputs.get(path)]
    if different:
        return _refuted(f"{_read(different[0])} not what {process} of the service loaded when it started")
    return _proven("by the record of the start")


def _read(path: str) -> str:
    folder, certificates, _ = path.rpartition(r"\*")
    return f"the certificate files in {folder} are" if certificates else f"{path} is"


def _by_times(evidence: ServiceEvidence) -> Loaded:
    started, now = evidence.service.started, evidence.clock
    if started is None:
        return _unknown("the start time of the service is not known")
    if now is not None and started > now:
        ahead = "the clock was ahead then, so times prove nothing"
        return _unknown(f"the service started at {started:{_TIME}}, later than the node's own time: {ahead}")
    if evidence.newest_change is not None:
        return _by_change_times(evidence, evidence.newest_change, started)
    return _by_modification_times(evidence, started)


def _by_change_times(evidence: ServiceEvidence, changed: datetime, started: datetime) -> Loaded:
    path, modified = evidence.newest_change_path, evidence.newest_input
    if changed < started:
        return _proven("by change times")
    if _is_later(changed, evidence.clock):
        return _unknown(_in_the_future(path, changed))
    if modified is not None and modified >= started and not _is_later(modified, evidence.clock):
        return _refuted(_after(evidence.newest_input_path, modified, started))
    return _unknown(
        f"{path} was replaced, or only its attributes, at {changed:{_TIME}}, after the service had started at "
        f"{started:{_TIME}}; its modification time is older"
    )


def _by_modification_times(evidence: ServiceEvidence, started: datetime) -> Loaded:
    path, modified = evidence.newest_input_path, evidence.newest_input
    if modified is None:
        return _unknown("the times of the files that the service reads are not known")
    if _is_later(modified, evidence.clock):
        return _unknown(_in_the_future(path, modified))
    if modified >= started:
        return _refuted(_after(path, modified, started))
    if evidence.asked == "modification times":  # the evidence of an older version is judged as it was then
        return _proven("by modification times")
    return _unknown("only modification times are known, and copying programs keep old ones")


def _is_later(time: datetime, now: datetime | None) -> bool:
    return now is not None and time > now


def _after(path: str, changed: datetime, started: datetime) -> str:
    return f"{path} changed at {changed:{_TIME}}, after the service had started at {started:{_TIME}}"


def _in_the_future(path: str, time: datetime) -> str:
    return f"{path} has the time {time:{_TIME}}, which is later than the node's own time"


def _proven(why: str) -> Loaded:
    return Loaded(InvariantState.PROVEN, why)


def _refuted(why: str) -> Loaded:
    return Loaded(InvariantState.REFUTED, why)


def _unknown(why: str) -> Loaded:
    return Loaded(InvariantState.UNKNOWN, why)
