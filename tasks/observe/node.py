"""Observes one node: `NodeFacts`. Reads only; one exchange, and a second one where the paths are not as expected."""

from functools import partial
from typing import NamedTuple

from tasks.cluster import Cluster
from tasks.ektron.certificates.family import CLIENT_KINDS, Family, family_names, node_of
from tasks.ektron.desired.config_files import paths_of
from tasks.ektron.editions import Layout
from tasks.ektron.facts.configuration import WebFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.wording import named
from tasks.fence import FENCE_FILE
from tasks.observe import drained_note
from tasks.observe.access import access_questions
from tasks.observe.asking import answers_to, with_included
from tasks.observe.border import cleaned_facts, understood
from tasks.observe.configuration import CONFIG_LIMIT, configuration_questions, contents_of
from tasks.observe.family_folder import folder_question
from tasks.observe.generated import generated_questions
from tasks.observe.layout import layout_of, seen_layout
from tasks.observe.look import Look
from tasks.observe.old_places import old_place_questions, old_places, services_beside
from tasks.observe.probes import probe_questions, probed
from tasks.observe.product_folder import elsewhere
from tasks.observe.replies import Replies, collected, facts_of
from tasks.observe.service import service_questions
from tasks.step import Work, own_folder
from tasks.step_values import Purpose
from workers.errors import Conflict
from workers.records import DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["living_family", "observe"]


def observe(work: Work, *, probes: bool = False) -> Look:
    """Everything the rules need from this node; on the origin also the family the configurator left there.

    Where the product is, is taken from an earlier observation: of this run, or of a run that found these servers
    joined; or from the usual folders. If the node reports another place, everything is asked again there.

    Args:
        work: the node and the session with it.
        probes: also try the sync port here and on the neighbours, and the site's web service.

    Raises:
        EsyncError: the session broke, a file is held open, or a reply cannot be understood.
    """
    began, earlier = work.time(), work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    likely = earlier or work.documents.facts_when_joined(work.node.name)
    probes = probes or (work.purpose is Purpose.PLAN_AND_VERIFY and likely is not None)
    layout, answers, looked = _found(work, likely, earlier.product_folder if earlier else "", probes=probes)
    paths = paths_of(layout, is_origin=work.is_origin)
    answers = with_included(work, paths, answers)
    with understood(work.node.name):
        _require_hashes(work, layout, answers)
    family, problem = _family(work, layout, answers)
    if problem and looked:
        problem += f"; looked in {named(looked)}; if the product is in another folder, set site.product_folder"
    with understood(work.node.name):
        seen = facts_of(work, layout, answers, family, problem, began)
        facts = cleaned_facts(seen.model_copy(update=_of_other_places(work, layout, answers, seen)))
        if work.is_origin and family is None:
            family = living_family(work, layout, facts)
            found = {"origin_family": dict(family.hashes), "origin_problem": ""} if family else {}
            facts = facts.model_copy(update=found)
        if probes:
            facts = facts.model_copy(update={"probes": cleaned_facts(probed(work, facts.web, answers))})
        noted = answers.get(drained_note.FILE)
        return Look(facts, family, contents_of(paths, answers), answers[FENCE_FILE], noted)


def _found(work: Work, likely: NodeFacts | None, product_folder: str, *, probes: bool) -> "_Found":
    """Asks where the product is likely to be, and again where the node says that it is.

    Args:
        work: the node.
        likely: an earlier observation of the node, if there is one.
        product_folder: where this run has found the product, if not beside the service.
        probes: whether the network is asked too.
    """
    guess = seen_layout(work.cluster, likely) if likely else layout_of(work.cluster, None)
    drive = likely.system_drive if likely else "C:"
    own = own_folder(likely.program_data if likely else f"{drive}\\ProgramData")
    ask = partial(_ask, work, probes=probes, web=likely.web if likely else None)
    answers = ask(guess, own, drive)
    image_path = str(answers["image_path"]["value"]) if answers["image_path"].ok else None
    drive = work.session.hello().system_drive
    layout = layout_of(work.cluster, image_path, drive, product_folder=product_folder)
    if layout != guess or own != work.own_folder:
        answers = ask(layout, work.own_folder, drive)
    if not work.is_origin or work.cluster.site.product_folder or _family(work, layout, answers)[0] is not None:
        return _Found(layout, answers)
    folder, looked = elsewhere(work, layout)
    if folder:
        layout = layout_of(work.cluster, image_path, drive, product_folder=folder)
        answers = ask(layout, work.own_folder, drive)
    return _Found(layout, answers, looked)


class _Found(NamedTuple):
    """Where the product is, what the node answers about it, and where else the origin's family was looked for."""

    layout: Layout
    answers: Replies
    looked: tuple[str, ...] = ()


def _of_other_places(work: Work, layout: Layout, answers: Replies, seen: NodeFacts) -> dict[str, object]:
    """What is beside the product: places where it was, services of other generations."""
    old = old_places(work, layout, answers, seen.generated.sitedb, seen.service.image_path)
    return {"old_places": old, "other_services": services_beside(layout, answers)}


def _family(work: Work, layout: Layout, answers: Replies) -> tuple[Family | None, str]:
    """The family that the Security Configurator left on the origin, or why there is none; see `_require_readable`."""
    _require_readable(work, answers)
    with understood(work.node.name):
        return collected(work, layout, answers) if work.is_origin else (None, "")


def living_family(work: Work, layout: Layout, facts: NodeFacts) -> Family | None:
    """The family that this node uses: its own six files in the service folder, if the service trusts them.

    So a node that holds the living family can become the origin, although the Security Configurator never ran there
    (ektron-facts 3.4).

    Raises:
        Conflict: a file is held open.
        NodeError: a file cannot be read.
    """
    names = family_names(work.node.name)
    answers = answers_to(work, {f"origin {name}": ops.read(f"{layout.service_folder}\\{name}") for name in names})
    _require_readable(work, answers)
    family, _ = collected(work, layout, answers)
    trusted = facts.service_config.keys.value(work.node.name)
    return family if family is not None and family.thumbprint == trusted else None


def _require_readable(work: Work, answers: Replies) -> None:
    """A file that another process holds open for a moment is not taken for changed or missing: the step observes again.

    Nor is a family that may not be read taken for a missing one, in place of which another one would be made.

    Raises:
        Conflict: a file is held open.
        NodeError: a file of the origin's family, or a certificate file in the site root, cannot be read.
    """
    for name, reply in answers.items():
        unreadable = name.startswith(("origin ", "web root ")) and reply.error not in {"", "not_found"}
        if unreadable or (reply.error == "busy" and name not in {FENCE_FILE, drained_note.FILE}):
            raise ops.error_of(reply, work.node.name)


def _require_hashes(work: Work, layout: Layout, answers: Replies) -> None:
    """A list has no hash of a certificate file that cannot be read. That is no other file: the reason is asked for.

    Raises:
        Conflict: the file is, or was a moment ago, open in another program.
        NodeError: it cannot be read.
    """
    folders = {
        "service folder": layout.service_folder,
        "staging": layout.staging_folder,
        "configurator": layout.configurator_folder,
    }
    for question, folder in folders.items():
        reply = answers.get(question)
        for entry in reply["entries"] if reply is not None and reply.ok else ():
            if not entry.get("hash") and _is_of(work.cluster, entry["name"]):
                path = f"{folder}\\{entry['name']}"
                (again,) = work.session.ask([ops.hash_of(path)], deadline=work.deadline, keep_going=True)
                if not again.ok:
                    raise ops.error_of(again, work.node.name)
                raise Conflict(f"{work.node.name}: the file was open in another program", file=path)


def _is_of(cluster: Cluster, file: str) -> bool:
    """Whether it is a certificate file of a node or a partner."""
    owner = node_of(file)
    if owner is None:
        return False
    return owner[0].casefold() in {name.casefold() for name in (*cluster.node_names, *cluster.partners)}


def _ask(
    work: Work, layout: Layout, own_folder: str, drive: str, *, probes: bool, web: WebFacts | None
) -> dict[str, Reply]:
    questions = _questions(work, layout, own_folder, drive)
    questions[FENCE_FILE] = ops.read(f"{own_folder}\\{FENCE_FILE}")
    if work.cluster.balancer(work.node.name):
        questions[drained_note.FILE] = drained_note.question(own_folder)
    if probes:
        questions |= probe_questions(work, web)
    return answers_to(work, questions)


def _questions(work: Work, layout: Layout, own_folder: str, drive: str) -> dict[str, Op]:
    """What is asked of the node, by the name of the question; what it says about itself may not be known yet."""
    own = work.node.name
    questions = {
        "image_path": ops.registry(layout.service_key, "ImagePath"),
        "site": ops.stat(layout.site),
        "precompiled": ops.stat(layout.precompiled_marker),
        "client": ops.read(f"{layout.service_folder}\\{own}_SyncClient.cer"),
        "server": ops.read(f"{layout.service_folder}\\{own}_SyncServer.cer"),
        "staging": ops.list_folder(layout.staging_folder, hashes=True),
    }
    questions |= configuration_questions(paths_of(layout, is_origin=work.is_origin))
    questions |= service_questions(work.cluster, layout, own_folder)
    questions |= generated_questions(layout, CONFIG_LIMIT)
    plans = work.purpose in {Purpose.PLAN, Purpose.PLAN_AND_VERIFY, Purpose.EXAMINE}
    questions |= access_questions(layout, own_folder.rpartition("\\")[0], is_origin=work.is_origin, files=plans)
    questions |= old_place_questions(layout, drive)
    questions |= {f"version {path}": ops.version(path) for path in (*layout.binaries, layout.site_binary)}
    questions |= {f"web root {kind}": ops.stat(f"{layout.site}\\{own}_{kind}", hashes=True) for kind in CLIENT_KINDS}
    if work.is_origin:
        questions["configurator"] = folder_question(work.cluster, layout.configurator_folder)
        # The six files that the Security Configurator leaves (procedure step 6).
        questions |= {f"origin {name}": ops.read(f"{layout.configurator_folder}\\{name}") for name in family_names(own)}
    return questions
