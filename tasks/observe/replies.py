"""The facts in a node's replies to `observe`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks.ektron.certificates.family import KINDS, Family, family_names
from tasks.ektron.desired.config_files import paths_of
from tasks.ektron.editions import Layout
from tasks.ektron.facts.machine import BinaryFacts, SystemFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import CertificateFacts, Spread
from tasks.ektron.refusals import Refused
from tasks.observe.access import place_facts
from tasks.observe.configuration import configuration_facts
from tasks.observe.family_folder import FamilyFolder
from tasks.observe.generated import generated_facts
from tasks.observe.service import service_evidence
from tasks.step import Work
from workers.winrm import operations as ops
from workers.winrm.greeting import Hello
from workers.winrm.operations import Reply

__all__ = ["Replies", "collected", "facts_of", "skew_of", "system_facts"]

Replies = Mapping[str, Reply]


def collected(work: Work, layout: Layout, answers: Replies) -> tuple[Family | None, str]:
    """The origin's six files as a family, or the reason why they are none, with the folder."""
    files = {name: answers[f"origin {name}"] for name in family_names(work.node.name)}
    present = {name: ops.data_of(reply) for name, reply in files.items() if reply.ok}
    if not present:
        return None, f"{layout.configurator_folder} {_without_files(answers.get('configurator'))}"
    try:
        return Family.collect(work.node.name, present), ""
    except Refused as refusal:
        return None, str(refusal)


def _without_files(reply: Reply | None) -> str:
    return "is missing" if reply is not None and reply.error == "not_found" else "has no certificate files of this node"


def facts_of(
    work: Work, layout: Layout, answers: Replies, family: Family | None, problem: str, began: datetime
) -> NodeFacts:
    """All answers of one observation, as facts.

    Args:
        work: the node.
        layout: where the product is on the node.
        answers: by the names of the questions.
        family: the origin's, if it was found.
        problem: why it was not.
        began: when the first question was asked, by the clock of `work`.

    Raises:
        AgentFailed: the service cannot be queried, or the clock cannot be read.
        NodeRefused: the list of stopped services cannot be understood.
    """
    seen, hello = work.time(), work.session.hello()
    evidence, clock = service_evidence(work.cluster, layout, answers), _clock(work, answers)
    paths, nodes, partners = paths_of(layout, is_origin=work.is_origin), work.cluster.node_names, work.cluster.partners
    service_folder = FamilyFolder.of(answers["service folder"], work.cluster)
    return NodeFacts(
        **dict(configuration_facts(paths, answers, nodes, work.documents.digest)),
        **{**dict(evidence), "clock": clock},
        node=work.node.name,
        computer=hello.computer,
        observed_at=seen,
        skew=round(skew_of(clock, began, seen), 1),
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
        service_family=service_folder.spreads(nodes),
        partner_family=service_folder.spreads(partners) if partners else {},
        product_folder=_found_elsewhere(work, layout),
        renamed_copies=service_folder.renamed_copies(nodes),
        configurator_folder=layout.configurator_folder if work.is_origin else "",
        configurator_family=_configurator_family(work, answers),
        **_own_files(work, answers),
        places=place_facts(layout, hello.program_data, answers, is_origin=work.is_origin),
        leftovers=_leftovers(layout, answers),
        generated=generated_facts(layout, answers, work.documents.digest),
        system=system_facts(hello),
    )


def _clock(work: Work, answers: Replies) -> datetime:
    """The clock of the node: without it nothing would be known of the skew."""
    if not answers["clock"].ok:
        raise ops.error_of(answers["clock"], work.node.name)
    return ops.time_of(answers["clock"]["now"])


def _own_files(work: Work, answers: Replies) -> dict[str, Any]:
    """The certificate files of the node itself, in the site root and in the staging folder."""
    staging = answers["staging"]
    return {
        "web_root_family": _own_hashes(answers, "web root "),
        "staging_files": _names(staging),
        "staging_family": _own_of(work, staging),
    }


def skew_of(clock: datetime, began: datetime, seen: datetime) -> float:
    """Seconds by which a clock is certainly ahead of ours; it was read at any moment in between.

    A slow node, such as one whose virus scanner looks at every file, may need minutes for its answers.
    """
    return min(0.0, (clock - began).total_seconds()) or max(0.0, (clock - seen).total_seconds())


def _configurator_family(work: Work, answers: Replies) -> dict[str, Spread]:
    """The files that the Security Configurator left; only the origin has any."""
    if not work.is_origin:
        return {}
    return FamilyFolder.of(answers["configurator"], work.cluster).spreads(work.cluster.node_names)


def _found_elsewhere(work: Work, layout: Layout) -> str:
    """The product's folder on the origin, if it is neither beside the service nor named by the cluster file."""
    beside = layout.product_folder.rpartition("\\")[0] == layout.service_folder.rpartition("\\")[0]
    return "" if beside or work.cluster.site.product_folder or not work.is_origin else layout.product_folder


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
    from tasks.ektron.certificates.files import describe_certificate  # noqa: PLC0415 - loads much, for workers only

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
