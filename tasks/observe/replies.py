"""The facts in a node's replies to `observe`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tasks.ektron.certificates.family import KINDS, Family, describe_certificate, family_names, node_of
from tasks.ektron.desired.config_files import paths_of
from tasks.ektron.editions import Layout
from tasks.ektron.facts import BinaryFacts, CertificateFacts, Fact, NodeFacts, Spread, SystemFacts
from tasks.ektron.refusals import Refused
from tasks.observe.configuration import configuration_facts
from tasks.observe.generated import generated_facts
from tasks.observe.service import service_evidence
from tasks.step import Work
from workers.errors import AgentFailed
from workers.records import now
from workers.texts import cleaned_all
from workers.winrm import operations as ops
from workers.winrm.operations import Hello, Op, Reply

__all__ = ["Replies", "answers_to", "cleaned_facts", "collected", "facts_of", "system_facts", "understood"]

Replies = Mapping[str, Reply]
F = TypeVar("F", bound=Fact)


@contextmanager
def understood(node: str) -> Iterator[None]:
    """The one border to what a node replies: a number in place of a text, a time that is none, anything at all.

    Raises:
        AgentFailed: the reply cannot be understood.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise AgentFailed(
            f"{node}: what the agent replied cannot be understood ({type(error).__name__})",
            remedy="find out what answers at this address; esync talks only to the agent that it starts itself",
        ) from None


def answers_to(work: Work, questions: Mapping[str, Op]) -> dict[str, Reply]:
    """The answers to named questions, from one exchange; a question that fails does not stop the others.

    Raises:
        EsyncError: the session broke.
    """
    replies = work.session.ask(
        list(questions.values()), deadline=work.deadline, keep_going=True, cancelled=work.cancelled
    )
    return dict(zip(questions, replies, strict=True))


def cleaned_facts(facts: F) -> F:
    """The facts without any character that must not be shown, from whatever file on the node it came.

    The result is what the store will return: a value that cannot be stored is found here.

    Raises:
        ValueError: a value cannot be stored.
    """
    whole = cleaned_all(facts.model_dump(mode="json"))
    return type(facts).model_validate_json(json.dumps(whole, allow_nan=False))


def collected(work: Work, answers: Replies) -> tuple[Family | None, str]:
    """The origin's six files as a family, or the reason why they are none."""
    files = {name: answers[f"origin {name}"] for name in family_names(work.node.name)}
    present = {name: ops.data_of(reply) for name, reply in files.items() if reply.ok}
    if not present:
        return None, "no certificate files are in the Security Configurator's folder"
    try:
        return Family.collect(work.node.name, present), ""
    except Refused as refusal:
        return None, str(refusal)


def facts_of(work: Work, layout: Layout, answers: Replies, family: Family | None, problem: str) -> NodeFacts:
    """All answers of one observation, as facts.

    Args:
        work: the node.
        layout: where the product is on the node.
        answers: by the names of the questions.
        family: the origin's, if it was found.
        problem: why it was not.

    Raises:
        AgentFailed: the service cannot be queried.
        NodeRefused: the list of stopped services cannot be understood.
    """
    seen = now()
    clock = ops.time_of(str(answers["clock"]["now"])) if answers["clock"]["now"] else seen
    hello = work.session.hello()
    paths = paths_of(layout, is_origin=work.is_origin)
    return NodeFacts(
        **dict(configuration_facts(paths, answers, work.cluster.node_names, work.documents.digest)),
        **dict(service_evidence(layout, answers)),
        node=work.node.name,
        computer=hello.computer,
        observed_at=seen,
        clock=clock,
        skew=round((clock - seen).total_seconds(), 1),
        program_data=hello.program_data,
        system_drive=hello.system_drive,
        service_folder=layout.service_folder,
        binaries=tuple(_binary(path, answers[f"version {path}"]) for path in (*layout.binaries, layout.site_binary)),
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
        leftovers=_leftovers(layout, answers),
        generated=generated_facts(layout, answers, work.documents.digest),
        system=system_facts(hello),
    )


def _exists(reply: Reply) -> bool:
    return reply.ok and bool(reply["exists"])


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
    """Per kind of family file, the hashes in a folder for each node."""
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


def _leftovers(layout: Layout, answers: Replies) -> tuple[str, ...]:
    names = [f"{layout.service_folder}\\{name}" for name in _names(answers["service folder"]) or ()]
    names += [f"{layout.staging_folder}\\{name}" for name in _names(answers["staging"]) or ()]
    return tuple(name for name in names if ".esync-" in name and name.endswith(".tmp"))


def system_facts(hello: Hello) -> SystemFacts:
    """What the node reported when the session was opened."""
    return SystemFacts(
        powershell=hello.powershell,
        edition=hello.edition,
        language_mode=hello.language_mode,
        clr=hello.clr,
        os=hello.os,
        admin=hello.admin,
        code_page=hello.code_page,
        free={drive.name: drive.free for drive in hello.drives},
    )
