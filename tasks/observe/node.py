"""Looks at one node and says what is there, as `NodeFacts`. Reads only; one exchange, a second where paths surprise."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.cluster import Cluster
from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS, Family
from tasks.ektron.editions import SYNC_PORT, Layout, edition_of, lay_out
from tasks.ektron.facts import NodeFacts, ProbeFacts
from tasks.fence import FENCE_FILE
from tasks.observe.generated import generated_questions
from tasks.observe.replies import Replies, cleaned_facts, collected, contents_of, facts_of, understood
from tasks.observe.stopped_dependents import question
from tasks.step import Work, own_folder
from workers.records import DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = [
    "NEIGHBOURS",
    "Look",
    "folder_limit",
    "layout_of",
    "observe",
    "origin_files",
    "planned_layout",
    "service_name",
]

NEIGHBOURS = 32  #: nodes each node tries to reach; in larger clusters the next ones in the file's order, cyclically
CONFIG_LIMIT = 16 * 2**20


def layout_of(cluster: Cluster, image_path: str | None, system_drive: str = "C:") -> Layout:
    """Where the product lies on a node; explicit paths of the cluster file win (ektron-facts 1.2, 1.3)."""
    return lay_out(
        edition_of(cluster.edition),
        site_path=cluster.site.path,
        system_drive=system_drive,
        image_path=image_path,
        service_folder=cluster.site.service_folder,
        product_folder=cluster.site.product_folder,
    )


def planned_layout(work: Work) -> Layout:
    """Where the product lies on a node, by what the plan saw there."""
    return _layout_seen(work) or layout_of(work.cluster, None, work.session.hello().system_drive)


def _layout_seen(work: Work) -> Layout | None:
    """By what this run has seen there before; None when it has not looked yet."""
    facts = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    return layout_of(work.cluster, facts.service.image_path, facts.system_drive) if facts else None


def _own_folder_seen(work: Work) -> str:
    """Where our folder is on the node, or most likely is before the node was greeted."""
    facts = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    return own_folder(facts.program_data if facts else r"C:\ProgramData")


def folder_limit(cluster: Cluster) -> int:
    """Entries a folder of the product may have: six a node, and plenty besides."""
    return 10_000 + len(KINDS) * len(cluster.nodes)


def service_name(cluster: Cluster) -> str:
    """The Windows service of the cluster's edition (ektron-facts 1.1)."""
    return edition_of(cluster.edition).service_name


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: facts; on the origin the family; path -> bytes of the configuration files; the fence file."""

    facts: NodeFacts
    family: Family | None
    contents: Mapping[str, bytes]
    fence: Reply


def observe(work: Work, *, probes: bool = False) -> Look:
    """Everything the rules need from this node; on the origin also the family the configurator left there.

    Args:
        work: the node and the session with it.
        probes: also ask for the sync port here and on the neighbours, and for the site's web service.

    Raises:
        EsyncError: the conversation broke, or a file is held open, or a reply cannot be understood.
    """
    guess, own = _layout_seen(work) or layout_of(work.cluster, None), _own_folder_seen(work)
    answers = _ask(work, guess, own, probes=probes)
    image_path = str(answers["image_path"]["value"]) if answers["image_path"].ok else None
    hello = work.session.hello()
    layout = layout_of(work.cluster, image_path, hello.system_drive)
    if layout != guess or own != work.own_folder:
        answers = _ask(work, layout, work.own_folder, probes=probes)
    _require_readable(work, answers)
    with understood(work.node.name):
        family, problem = collected(work, answers) if work.is_origin else (None, "")
        facts = cleaned_facts(facts_of(work, layout, answers, family, problem))
        if probes:
            facts = facts.model_copy(update={"probes": _probes(work, facts.web.ws_path, answers)})
        return Look(facts, family, contents_of(layout, answers), answers[FENCE_FILE])


def _require_readable(work: Work, answers: Replies) -> None:
    """What another process holds open for a moment is not taken for changed or missing: the step looks again.

    Nor is a family that may not be read taken for none, for which another one would be made.

    Raises:
        Conflict: a file is held open.
        NodeError: a file of the origin's family cannot be read.
    """
    for name, reply in answers.items():
        unreadable = name.startswith("origin ") and reply.error not in {"", "not_found"}
        if unreadable or (reply.error == "busy" and name != FENCE_FILE):
            raise ops.error_of(reply, work.node.name)


def origin_files(folder: str, node: str) -> dict[str, str]:
    """Kind -> path of the six files the Security Configurator leaves (procedure step 6)."""
    return {kind: f"{folder}\\{node}_{kind}" for kind in KINDS}


def _ask(work: Work, layout: Layout, own_folder: str, *, probes: bool) -> dict[str, Reply]:
    questions = _questions(work, layout) | {"left stopped": question(own_folder)}
    questions[FENCE_FILE] = ops.read(f"{own_folder}\\{FENCE_FILE}")
    if probes:
        questions |= {f"reach {name}": ops.tcp(host, SYNC_PORT, timeout=3) for name, host in _neighbours(work).items()}
        questions["listening"] = ops.tcp(work.node.host, SYNC_PORT, timeout=3)
        seen = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
        if seen and seen.web.ws_path:
            questions["site answers"] = _site_question(seen.web.ws_path)
    replies = work.session.ask(
        list(questions.values()), deadline=work.deadline, keep_going=True, cancelled=work.cancelled
    )
    return dict(zip(questions, replies, strict=True))


def _questions(work: Work, layout: Layout) -> dict[str, Op]:
    """What is asked of the node, by name."""
    own = work.node.name
    questions = {
        "clock": ops.clock(),
        "image_path": ops.registry(layout.service_key, "ImagePath"),
        "service": ops.service(service_name(work.cluster)),
        "asset": ops.read(layout.asset_config, limit=CONFIG_LIMIT),
        "service_config": ops.read(layout.service_config, limit=CONFIG_LIMIT),
        "web": ops.read(layout.web_config, limit=CONFIG_LIMIT),
        "asset stat": ops.stat(layout.asset_config),
        "service_config stat": ops.stat(layout.service_config),
        "web stat": ops.stat(layout.web_config),
        "site": ops.stat(layout.site),
        "precompiled": ops.stat(layout.precompiled_marker),
        "service folder": ops.list_folder(layout.service_folder, hashes=True, limit=folder_limit(work.cluster)),
        "client": ops.read(f"{layout.service_folder}\\{own}_SyncClient.cer"),
        "server": ops.read(f"{layout.service_folder}\\{own}_SyncServer.cer"),
        "staging": ops.list_folder(layout.staging_folder, hashes=True),
    }
    questions |= generated_questions(layout, CONFIG_LIMIT)
    questions |= {f"version {path}": ops.version(path) for path in (*layout.binaries, layout.site_binary)}
    questions |= {f"web root {kind}": ops.stat(f"{layout.site}\\{own}_{kind}", hashes=True) for kind in CLIENT_KINDS}
    if work.is_origin:
        questions["ews"] = ops.read(layout.ews_config, limit=CONFIG_LIMIT)
        questions["ews stat"] = ops.stat(layout.ews_config)
        questions["configurator"] = ops.list_folder(
            layout.configurator_folder, hashes=True, limit=folder_limit(work.cluster)
        )
        sources = origin_files(layout.configurator_folder, own)
        questions |= {f"origin {kind}": ops.read(path) for kind, path in sources.items()}
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
