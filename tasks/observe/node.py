"""Observes one node: `NodeFacts`. Reads only; one exchange, and a second one where the paths are not as expected."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.ektron.certificates.family import CLIENT_KINDS, Family, family_names
from tasks.ektron.desired.config_files import ConfigFile, paths_of
from tasks.ektron.editions import SYNC_PORT, Layout
from tasks.ektron.facts import NodeFacts, ProbeFacts
from tasks.fence import FENCE_FILE
from tasks.observe.configuration import CONFIG_LIMIT, configuration_questions, contents_of
from tasks.observe.generated import generated_questions
from tasks.observe.layout import layout_of, seen_layout
from tasks.observe.replies import Replies, answers_to, cleaned_facts, collected, facts_of, understood
from tasks.observe.service import folder_limit, service_questions
from tasks.step import Work, own_folder
from workers.records import DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["NEIGHBOURS", "Look", "observe"]

NEIGHBOURS = 32  #: nodes each node tries to reach; in larger clusters the next ones in the file's order, cyclically


@dataclass(frozen=True, slots=True)
class Look:
    """What was observed: facts; on the origin the family; the bytes of the configuration files; the fence file."""

    facts: NodeFacts
    family: Family | None
    contents: Mapping[ConfigFile, bytes]
    fence: Reply


def observe(work: Work, *, probes: bool = False) -> Look:
    """Everything the rules need from this node; on the origin also the family the configurator left there.

    Where the product is, is taken from an earlier observation of this run, or from the usual folders. If the node
    reports another place, everything is asked again there.

    Args:
        work: the node and the session with it.
        probes: also try the sync port here and on the neighbours, and the site's web service.

    Raises:
        EsyncError: the session broke, a file is held open, or a reply cannot be understood.
    """
    earlier = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    guess = seen_layout(work.cluster, earlier) if earlier else layout_of(work.cluster, None)
    own = own_folder(earlier.program_data if earlier else r"C:\ProgramData")
    ws_path = earlier.web.ws_path if earlier and probes else None
    answers = _ask(work, guess, own, probes=probes, ws_path=ws_path)
    image_path = str(answers["image_path"]["value"]) if answers["image_path"].ok else None
    layout = layout_of(work.cluster, image_path, work.session.hello().system_drive)
    if layout != guess or own != work.own_folder:
        answers = _ask(work, layout, work.own_folder, probes=probes, ws_path=ws_path)
    _require_readable(work, answers)
    with understood(work.node.name):
        family, problem = collected(work, answers) if work.is_origin else (None, "")
        facts = cleaned_facts(facts_of(work, layout, answers, family, problem))
        if probes:
            facts = facts.model_copy(update={"probes": _probes(work, facts.web.ws_path, answers)})
        return Look(facts, family, contents_of(answers), answers[FENCE_FILE])


def _require_readable(work: Work, answers: Replies) -> None:
    """A file that another process holds open for a moment is not taken for changed or missing: the step observes again.

    Nor is a family that may not be read taken for a missing one, in place of which another one would be made.

    Raises:
        Conflict: a file is held open.
        NodeError: a file of the origin's family cannot be read.
    """
    for name, reply in answers.items():
        unreadable = name.startswith("origin ") and reply.error not in {"", "not_found"}
        if unreadable or (reply.error == "busy" and name != FENCE_FILE):
            raise ops.error_of(reply, work.node.name)


def _ask(work: Work, layout: Layout, own_folder: str, *, probes: bool, ws_path: str | None) -> dict[str, Reply]:
    questions = _questions(work, layout, own_folder)
    questions[FENCE_FILE] = ops.read(f"{own_folder}\\{FENCE_FILE}")
    if probes:
        questions |= {f"reach {name}": ops.tcp(host, SYNC_PORT, timeout=3) for name, host in _neighbours(work).items()}
        questions["listening"] = ops.tcp(work.node.host, SYNC_PORT, timeout=3)
        if ws_path:
            questions["site answers"] = _site_question(ws_path)
    return answers_to(work, questions)


def _questions(work: Work, layout: Layout, own_folder: str) -> dict[str, Op]:
    """What is asked of the node, by the name of the question."""
    own = work.node.name
    questions = {
        "clock": ops.clock(),
        "image_path": ops.registry(layout.service_key, "ImagePath"),
        "site": ops.stat(layout.site),
        "precompiled": ops.stat(layout.precompiled_marker),
        "client": ops.read(f"{layout.service_folder}\\{own}_SyncClient.cer"),
        "server": ops.read(f"{layout.service_folder}\\{own}_SyncServer.cer"),
        "staging": ops.list_folder(layout.staging_folder, hashes=True),
    }
    questions |= configuration_questions(paths_of(layout, is_origin=work.is_origin))
    questions |= service_questions(work.cluster, layout, own_folder, hashes=True)
    questions |= generated_questions(layout, CONFIG_LIMIT)
    questions |= {f"version {path}": ops.version(path) for path in (*layout.binaries, layout.site_binary)}
    questions |= {f"web root {kind}": ops.stat(f"{layout.site}\\{own}_{kind}", hashes=True) for kind in CLIENT_KINDS}
    if work.is_origin:
        questions["configurator"] = ops.list_folder(
            layout.configurator_folder, hashes=True, limit=folder_limit(work.cluster)
        )
        # The six files that the Security Configurator leaves (procedure step 6).
        questions |= {f"origin {name}": ops.read(f"{layout.configurator_folder}\\{name}") for name in family_names(own)}
    return questions


def _neighbours(work: Work) -> dict[str, str]:
    names = list(work.cluster.node_names)
    here = names.index(work.node.name)
    following = (names[here + 1 :] + names[:here])[:NEIGHBOURS]
    return {name: work.cluster.node(name).host for name in following}


def _site_question(ws_path: str) -> Op:
    return ops.http(ws_path, timeout=10)


def _probes(work: Work, ws_path: str | None, answers: Replies) -> ProbeFacts:
    status: int | None = None
    if ws_path:
        site = answers.get("site answers")
        if site is None or site.op != _site_question(ws_path):
            (site,) = work.session.ask([_site_question(ws_path)], deadline=work.deadline, keep_going=True)
        status = site["status"] if site.ok else 0
    reached = {name: answers[f"reach {name}"] for name in _neighbours(work)}
    return ProbeFacts(
        listening_8732=bool(answers["listening"].ok and answers["listening"]["reachable"]),
        reach_8732={name: bool(reply.ok and reply["reachable"]) for name, reply in reached.items()},
        ws_status=status,
    )
