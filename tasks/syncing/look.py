"""Looks at one server: its service, its status files, and what its site says about syncs. Changes nothing."""

from collections.abc import Mapping

from tasks.ektron.config.readers import read_web
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.editions import edition_of
from tasks.ektron.refusals import Refused
from tasks.ektron.sync.canary import run_of
from tasks.ektron.sync.seen import LastSync, SiteSeen, StatusFile, document_name
from tasks.observe.asking import answers_to, with_included
from tasks.observe.border import cleaned_facts, understood
from tasks.observe.configuration import CONFIG_LIMIT, contents_of, usual_question
from tasks.observe.probes import listens, own_port
from tasks.step import Work
from tasks.syncing.canaries import canary_folder
from tasks.syncing.handlers import SyncSite, site_of
from tasks.syncing.place import SitePlace, place_of
from workers.errors import Cancelled, EsyncError, NodeError, NodeRefused
from workers.records import DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["look", "seen_of", "site_place", "status_folder"]

_CANARIES = 10_000  #: entries of the folder of canaries that a look lists
_STATUS_FILES = 200
_PROFILES = 20  #: profiles whose last sync is asked for
_LAST = 8  #: entries of each that are kept


def look(work: Work) -> SiteSeen:
    """What is seen now; it is kept with the run.

    A site that does not answer is a result. Raises only when the server itself cannot be asked.
    """
    replies = _asked(work)
    with understood(work.node.name):
        seen = _server_seen(work, replies)
    try:
        place = _place(work, replies)
        seen = seen.model_copy(update={"site": str(place)})
        seen = _site_seen(site_of(work, place), seen)
    except Cancelled:
        raise
    except NodeError as error:
        seen = seen.model_copy(update={"site_problem": _why(error)})
    seen = cleaned_facts(seen)
    work.documents.keep(DocumentKind.SYNC, document_name(work.node.name, work.turn), seen.model_dump_json())
    return seen


def seen_of(work: Work, node: str) -> SiteSeen | None:
    """What this run has seen on a node before anything was done; None if the node was not looked at."""
    kept = work.documents.all_kept(DocumentKind.SYNC)
    names = [name for name in kept if name.startswith((f"{node}_canary", f"{node}_observe"))]
    return SiteSeen.model_validate_json(kept[names[-1]]) if names else None


def site_place(work: Work) -> SitePlace:
    """Where the site of this node answers, by its web.config.

    Raises:
        NodeError: web.config cannot be read, or does not name the site.
    """
    return _place(work, answers_to(work, _web_config(work)))


def status_folder(work: Work) -> str:
    """EktSyncStatus in the site root (ektron-facts 1.2)."""
    return work.cluster.site.below("EktSyncStatus")


def _web_config(work: Work) -> dict[str, Op]:
    path = _web_config_path(work)
    return {ConfigFile.WEB: ops.read(path, limit=CONFIG_LIMIT, remembered=True)} | usual_question(path)


def _web_config_path(work: Work) -> str:
    return work.cluster.site.below("web.config")


def _asked(work: Work) -> Mapping[str, Reply]:
    questions: dict[str, Op] = {
        "service": ops.service(edition_of(work.cluster.edition).service_name),
        "port": own_port(work),
        "status": ops.list_folder(status_folder(work), hashes=True, limit=_STATUS_FILES),
        "canaries": ops.list_folder(canary_folder(work), limit=_CANARIES),
    }
    return answers_to(work, questions | _web_config(work))


def _server_seen(work: Work, replies: Mapping[str, Reply]) -> SiteSeen:
    service, port, status, canaries = (replies[name] for name in ("service", "port", "status", "canaries"))
    return SiteSeen(
        node=work.node.name,
        service=str(service["state"]) if service.ok else "",
        listening=listens(work, port),
        status_files=tuple(
            StatusFile(
                name=str(one["name"]), size=int(one["size"]), changed=ops.time_of(one["mtime"]), hash=one["hash"] or ""
            )
            for one in status.get("entries", ())
            if one["kind"] == "file"
        ),
        status_files_more=bool(status.get("truncated")),
        canaries=tuple(str(one["name"]) for one in canaries.get("entries", ()) if run_of(str(one["name"]))),
        folder_exists=canaries.ok,
    )


def _place(work: Work, replies: Mapping[str, Reply]) -> SitePlace:
    """By web.config with the files that it includes: WSPath may be in one of them (ektron-facts 10)."""
    ws_path = site_path = None
    if replies[ConfigFile.WEB].ok:
        paths = {ConfigFile.WEB: _web_config_path(work)}
        content = contents_of(paths, with_included(work, paths, replies))[ConfigFile.WEB]
        try:
            web = read_web(content, lambda _: "")
            ws_path, site_path = web.ws_path, web.site_path
        except Refused as refusal:
            raise NodeRefused(f"{work.node.name}: web.config: {refusal}", remedy=refusal.remedy) from None
    return place_of(work.cluster, work.node, ws_path, site_path)


def _site_seen(site: SyncSite, seen: SiteSeen) -> SiteSeen:
    """What the handlers answer. The first question decides whether the site answers at all."""
    found: dict[str, object] = {"balance": site.balance_status()}
    try:
        relationships = site.relationships()
        found |= {"relationships": relationships, "running": site.in_progress()}
        profiles = [profile for one in relationships for profile in one.profiles][:_PROFILES]
        found["last"] = tuple(_last(site, profile.name, profile.id) for profile in profiles)
    except NodeError as error:
        found["profiles_problem"] = _why(error)
    login = "accepted" if site.logged_in else str(found.get("profiles_problem") or "none")
    return seen.model_copy(update={**found, "login": login})


def _last(site: SyncSite, name: str, profile: str) -> LastSync:
    status = site.status(profile)
    return LastSync(profile=name, complete=status.complete, success=status.success, entries=status.entries[-_LAST:])


def _why(error: EsyncError) -> str:
    return f"{error}. {error.remedy}" if error.remedy else str(error)
