"""The start record: our note on a node about one process of the service, and what that process has loaded.

The agent writes it after a start, and before a change of anything that the service reads (docs/agent-protocol.md). A
step writes it for a start that it only saw. It is one small file: the certificate files of all nodes have one digest
together.
"""

import json
from collections.abc import Mapping

from pydantic import ValidationError

from tasks.ektron.facts.service import ServiceEvidence, ServiceFacts, StartRecord
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["FILE", "outdated", "place", "question", "record_in", "seen"]

FILE = "service-start"  #: its name in the one folder on the node that is ours
_LIMIT = 65_536


def place(own_folder: str) -> str:
    """Where it is, in our own folder on the node."""
    return f"{own_folder}\\{FILE}"


def question(own_folder: str) -> Op:
    """Asks for the record."""
    return ops.read(place(own_folder), limit=_LIMIT)


def outdated(own_folder: str, service: ServiceFacts) -> Op:
    """Writes that the present process of the service has not loaded what is there."""
    return _writing(own_folder, service, None)


def seen(own_folder: str, evidence: ServiceEvidence) -> Op:
    """Writes that the process that was seen has loaded the files that were seen.

    If one of them changes meanwhile, it differs from the record; another process has no record.
    """
    return _writing(own_folder, evidence.service, evidence.inputs)


def _writing(own_folder: str, service: ServiceFacts, loaded: Mapping[str, str] | None) -> Op:
    started = service.started.isoformat() if service.started else None
    value = {"service": service.name, "pid": service.pid, "started": started, "loaded": loaded}
    return ops.write(place(own_folder), json.dumps(value).encode(), expect=ops.ANY)


def record_in(reply: Reply) -> StartRecord | None:
    """The record; None if there is none, or it is not one: then times are the evidence."""
    if not reply.ok:
        return None
    try:
        return StartRecord.model_validate_json(ops.data_of(reply))
    except ValidationError:
        return None
