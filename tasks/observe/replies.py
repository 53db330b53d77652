"""From a node's replies to facts: what `observe` asked, understood."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from tasks.ektron.certificates.family import KINDS, Family, describe_certificate, node_of
from tasks.ektron.config.readers import read_asset, read_service, read_web
from tasks.ektron.editions import Layout, edition_of
from tasks.ektron.facts import (
    AssetFacts,
    BinaryFacts,
    CertificateFacts,
    FileFacts,
    NodeFacts,
    ServiceConfigFacts,
    ServiceFacts,
    Spread,
    WebFacts,
)
from tasks.ektron.refusals import Refused
from tasks.observe.generated import generated_facts
from tasks.observe.readiness import system_facts
from tasks.observe.stopped_dependents import noted
from tasks.step import Work
from workers.errors import AgentFailed
from workers.records import now
from workers.texts import cleaned_all
from workers.winrm import operations as ops
from workers.winrm.operations import Reply

__all__ = ["Replies", "cleaned_facts", "collected", "contents_of", "facts_of", "understood"]

Replies = Mapping[str, Reply]
F = TypeVar("F")


@contextmanager
def understood(node: str) -> Iterator[None]:
    """The one border to what a node says: a number where a text belongs, a time that is none, anything at all.

    Raises:
        AgentFailed: it cannot be understood.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise AgentFailed(
            f"{node}: what the agent replied cannot be understood ({type(error).__name__})",
            remedy="find out what answers at this address; esync talks only to the agent that it starts itself",
        ) from None


def cleaned_facts(facts: NodeFacts) -> NodeFacts:
    """The facts without a character that must not be shown, in whatever file on the node it stood.

    As the store will give them back: what cannot be kept is found here.

    Raises:
        ValueError: a value cannot be kept.
    """
    whole = cleaned_all(facts.model_dump(mode="json"))
    return NodeFacts.model_validate_json(json.dumps(whole, allow_nan=False))


def contents_of(layout: Layout, answers: Replies) -> dict[str, bytes]:
    """Path -> bytes of the configuration files that could be read."""
    paths = {
        "asset": layout.asset_config,
        "service_config": layout.service_config,
        "web": layout.web_config,
        "ews": layout.ews_config,
    }
    return {path: ops.data_of(answers[name]) for name, path in paths.items() if name in answers and answers[name].ok}


def collected(work: Work, answers: Replies) -> tuple[Family | None, str]:
    """The origin's six files as a family, or why they are none."""
    files = {f"{work.node.name}_{kind}": answers[f"origin {kind}"] for kind in KINDS}
    present = {name: ops.data_of(reply) for name, reply in files.items() if reply.ok}
    if not present:
        return None, "no certificate files are in the Security Configurator's folder"
    try:
        return Family.collect(work.node.name, present), ""
    except Refused as refusal:
        return None, str(refusal)


def facts_of(work: Work, layout: Layout, answers: Replies, family: Family | None, problem: str) -> NodeFacts:
    """All answers of one look, as facts.

    Args:
        work: the node.
        layout: where the product lies on it.
        answers: by the names of the questions.
        family: the origin's, if it was found.
        problem: why it was not.

    Raises:
        AgentFailed: the service cannot be asked.
        NodeRefused: the note of stopped services cannot be understood.
    """
    seen, clock = now(), _time(answers["clock"]["now"]) or now()
    hello = work.session.hello()
    newest, newest_path = _newest_input(layout, answers)
    return NodeFacts(
        node=work.node.name,
        computer=hello.computer,
        observed_at=seen,
        clock=clock,
        skew=round((clock - seen).total_seconds(), 1),
        program_data=hello.program_data,
        system_drive=hello.system_drive,
        service_folder=layout.service_folder,
        service=_service(edition_of(work.cluster.edition).service_name, answers),
        binaries=tuple(_binary(path, answers[f"version {path}"]) for path in (*layout.binaries, layout.site_binary)),
        asset=_asset(layout, answers),
        service_config=_service_config(work, layout.service_config, answers, "service_config"),
        web=_web(work, layout, answers),
        ews=_service_config(work, layout.ews_config, answers, "ews") if work.is_origin else None,
        precompiled=_exists(answers["precompiled"]),
        site_exists=_exists(answers["site"]),
        origin_family=dict(family.hashes) if family else {},
        origin_problem=problem,
        client=_certificate(answers["client"]),
        server=_certificate(answers["server"]),
        service_family=_spreads(work, answers["service folder"]),
        configurator_folder=layout.configurator_folder if work.is_origin else "",
        configurator_family=_spreads(work, answers["configurator"]) if work.is_origin else {},
        web_root_family=_own_hashes(answers, "web root "),
        staging_files=_names(answers["staging"]),
        staging_family=_own_of(work, answers["staging"]),
        newest_input=newest,
        newest_input_path=newest_path,
        leftovers=_leftovers(layout, answers),
        generated=generated_facts(layout, answers, work.documents.digest),
        system=system_facts(hello),
    )


def _time(value: object) -> datetime | None:
    return ops.time_of(str(value)) if value else None


def _exists(reply: Reply) -> bool:
    return reply.ok and bool(reply["exists"])


def _file(path: str, answers: Replies, name: str, problem: str = "") -> FileFacts:
    content, stat = answers[name], answers.get(f"{name} stat")
    if not content.ok:
        return FileFacts(path=path, exists=content.error != "not_found", problem=problem or content.message)
    readonly = stat is not None and stat.ok and bool(stat.get("readonly", False))
    return FileFacts(
        path=path,
        exists=True,
        size=content["size"],
        mtime=_time(content["mtime"]),
        hash=content["hash"],
        readonly=readonly,
        problem=problem,
    )


def _understood(answers: Replies, name: str, reader: Callable[[bytes], F]) -> tuple[F | None, str]:
    """What the reader makes of a file, or why it cannot."""
    if not answers[name].ok:
        return None, ""
    try:
        return reader(ops.data_of(answers[name])), ""
    except Refused as refusal:
        return None, str(refusal)


def _asset(layout: Layout, answers: Replies) -> AssetFacts:
    read, problem = _understood(answers, "asset", read_asset)
    file = _file(layout.asset_config, answers, "asset", problem)
    return AssetFacts(file=file, **dict(read or ()))


def _service_config(work: Work, path: str, answers: Replies, name: str) -> ServiceConfigFacts:
    read, problem = _understood(answers, name, read_service)
    file = _file(path, answers, name, problem)
    if read is None:
        return ServiceConfigFacts(file=file)
    return ServiceConfigFacts(
        file=file,
        load_balanced=read.load_balanced,
        library_load_balanced=read.library_load_balanced,
        load_bal_server_count=read.load_bal_server_count,
        install_version=read.install_version,
        keys=Spread.of(read.key_thumbprints, work.cluster.node_names, duplicated=read.duplicated_keys),
        keys_present=read.keys_present,
        server_certificates=read.server_certificates,
    )


def _web(work: Work, layout: Layout, answers: Replies) -> WebFacts:
    read, problem = _understood(answers, "web", lambda data: read_web(data, work.documents.digest))
    file = _file(layout.web_config, answers, "web", problem)
    return WebFacts(file=file, **dict(read or ()))


def _service(name: str, answers: Replies) -> ServiceFacts:
    reply = answers["service"]
    if not reply.ok:
        if reply.error == "not_found":
            return ServiceFacts(name=name)
        raise AgentFailed(f"the service {name} cannot be asked: {reply.message}")
    return ServiceFacts(
        name=name,
        installed=True,
        state=reply["state"],
        start_type=reply["start_type"],
        pid=reply["pid"],
        started=_time(reply.get("started")),
        image_path=reply["image_path"],
        dependents=tuple(reply["dependents"]),
        left_stopped=noted(answers["left stopped"]),
    )


def _binary(path: str, reply: Reply) -> BinaryFacts:
    name = path.rpartition("\\")[2]
    if not reply.ok:
        return BinaryFacts(name=name)
    return BinaryFacts(name=name, version=reply["version"], size=reply["size"], hash=reply["hash"])


def _certificate(reply: Reply) -> CertificateFacts | None:
    if not reply.ok:
        return None
    try:
        return describe_certificate(ops.data_of(reply))
    except Refused:
        return None


def _entries(reply: Reply) -> list[dict[str, Any]]:
    return list(reply["entries"]) if reply.ok else []


def _names(reply: Reply) -> tuple[str, ...] | None:
    """Names of the files in a folder; None when there is no folder."""
    if not reply.ok:
        return None
    return tuple(entry["name"] for entry in reply["entries"] if entry["kind"] == "file")


def _spreads(work: Work, reply: Reply) -> dict[str, Spread]:
    """Per kind of family file, what lies in a folder for each node."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for entry in _entries(reply):
        named = node_of(entry["name"])
        if named:
            found[named[1]][named[0]] = entry.get("hash", "")
    return {kind: Spread.of(hashes, work.cluster.node_names) for kind, hashes in found.items()}


def _own_hashes(answers: Replies, prefix: str) -> dict[str, str]:
    replies = {name.removeprefix(prefix): reply for name, reply in answers.items() if name.startswith(prefix)}
    return {kind: reply["hash"] for kind, reply in replies.items() if _exists(reply) and reply.get("hash")}


def _own_of(work: Work, reply: Reply) -> dict[str, str]:
    names = {f"{work.node.name}_{kind}".upper(): kind for kind in KINDS}
    hashes = {names.get(entry["name"].upper()): entry.get("hash", "") for entry in _entries(reply)}
    return {kind: value for kind, value in hashes.items() if kind}


def _newest_input(layout: Layout, answers: Replies) -> tuple[datetime | None, str]:
    """The latest change of anything the service reads when it starts: its two configurations, the certificates."""
    times: dict[str, datetime] = {}
    for name, path in (("asset", layout.asset_config), ("service_config", layout.service_config)):
        reply = answers[name]
        if reply.ok and (changed := _time(reply["mtime"])):
            times[path] = changed
    for entry in _entries(answers["service folder"]):
        if node_of(entry["name"]) and (changed := _time(entry["mtime"])):
            times[f"{layout.service_folder}\\{entry['name']}"] = changed
    if not times:
        return None, ""
    path = max(times, key=lambda path: times[path])
    return times[path], path


def _leftovers(layout: Layout, answers: Replies) -> tuple[str, ...]:
    names = [f"{layout.service_folder}\\{name}" for name in _names(answers["service folder"]) or ()]
    names += [f"{layout.staging_folder}\\{name}" for name in _names(answers["staging"]) or ()]
    return tuple(name for name in names if ".esync-" in name and name.endswith(".tmp"))
