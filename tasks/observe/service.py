"""Observes the Windows service and what it reads when it starts: the evidence of a restart that is owed."""

from collections.abc import Mapping
from datetime import datetime

from tasks.cluster import Cluster
from tasks.ektron.certificates.family import KINDS
from tasks.ektron.desired.config_files import ConfigFile, read_at_start
from tasks.ektron.editions import Layout
from tasks.ektron.facts import ServiceEvidence, ServiceFacts
from tasks.observe.stopped_dependents import names_in, question
from workers.errors import AgentFailed
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["REQUIRED", "folder_limit", "service_evidence", "service_questions"]

_SERVICE, _FOLDER, _LEFT_STOPPED = "service", "service folder", "left stopped"
#: The questions without whose answers there is no evidence.
REQUIRED = (_SERVICE, ConfigFile.ASSET.stat, ConfigFile.SERVICE.stat, _FOLDER)


def folder_limit(cluster: Cluster) -> int:
    """Entries a folder of the product may have: six a node, and some of the product."""
    return 10_000 + len(KINDS) * len(cluster.nodes)


def service_questions(cluster: Cluster, layout: Layout, own_folder: str, *, hashes: bool = False) -> dict[str, Op]:
    """What is asked of the node, by name.

    Args:
        cluster: the node's.
        layout: where the product is on the node.
        own_folder: ours on the node.
        hashes: also of the files in the service's folder.
    """
    return {
        _SERVICE: ops.service(layout.service_name),
        ConfigFile.ASSET.stat: ops.stat(layout.asset_config),
        ConfigFile.SERVICE.stat: ops.stat(layout.service_config),
        _FOLDER: ops.list_folder(layout.service_folder, hashes=hashes, limit=folder_limit(cluster)),
        _LEFT_STOPPED: question(own_folder),
    }


def service_evidence(layout: Layout, answers: Mapping[str, Reply]) -> ServiceEvidence:
    """The facts in the answers to `service_questions`.

    Raises:
        AgentFailed: the service cannot be queried.
        NodeRefused: the note of stopped services cannot be understood.
    """
    newest, path = _newest_input(layout, answers)
    return ServiceEvidence(service=_service(layout.service_name, answers), newest_input=newest, newest_input_path=path)


def _service(name: str, answers: Mapping[str, Reply]) -> ServiceFacts:
    reply = answers[_SERVICE]
    if not reply.ok:
        if reply.error == "not_found":
            return ServiceFacts(name=name)
        raise AgentFailed(f"the service {name} cannot be queried: {reply.message}")
    return ServiceFacts(
        name=name,
        installed=True,
        state=reply["state"],
        start_type=reply["start_type"],
        pid=reply["pid"],
        started=ops.time_of(str(reply["started"])) if reply.get("started") else None,
        image_path=reply["image_path"],
        dependents=tuple(reply["dependents"]),
        left_stopped=names_in(answers[_LEFT_STOPPED]),
    )


def _newest_input(layout: Layout, answers: Mapping[str, Reply]) -> tuple[datetime | None, str]:
    """The latest change of anything the service reads when it starts, and what it was."""
    paths = {ConfigFile.ASSET: layout.asset_config, ConfigFile.SERVICE: layout.service_config}
    texts = {path: answers[file.stat].get("mtime") for file, path in paths.items()}
    entries = answers[_FOLDER]["entries"] if answers[_FOLDER].ok else ()
    texts |= {f"{layout.service_folder}\\{entry['name']}": entry["mtime"] for entry in entries}
    times = {path: ops.time_of(str(text)) for path, text in texts.items() if text and read_at_start(layout, path)}
    path = max(times, key=lambda one: times[one], default="")
    return times.get(path), path
