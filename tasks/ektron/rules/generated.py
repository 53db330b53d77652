"""Invariants about the files that the product generates. All are warnings: few samples of these files are known."""

from collections.abc import Sequence
from datetime import timedelta

from tasks.ektron.facts.generated import GeneratedFile, GeneratedSite
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import folded_path
from tasks.ektron.rules.effective import CONNECTION, why_not_comparable
from tasks.ektron.rules.findings import Judged, Unknown, Violated, all_agree, each_node, warning
from tasks.ektron.wording import counted, named

__all__ = ["GENERATED_RULES"]

_STALE = timedelta(days=1)


def _agrees(facts: NodeFacts) -> Judged:
    """The service makes both files from web.config, once a day and perhaps when it starts (ektron-facts 2.4)."""
    if facts.web.connection_digest is None:
        return Unknown(why_not_comparable(facts))
    sitedb, data = facts.generated.sitedb, facts.generated.data
    folder = folded_path(facts.web.file.folder)
    sites = sitedb.sites if sitedb else ()
    here = [one for one in sites if one.physical_path is None or folded_path(one.physical_path) == folder]
    return (
        _same_connection("sitedb.config", sitedb, here, facts)
        or _in_use(here, facts.web.site_path)
        or _same_connection("data.config", data, data.sites if data else (), facts)
    )


def _same_connection(name: str, file: GeneratedFile | None, sites: Sequence[GeneratedSite], facts: NodeFacts) -> Judged:
    """One of the entries for this site must have the connection string of web.config."""
    unread = _unread(name, file)
    if unread:
        return unread
    if not sites:
        listed = [site.physical_path for site in file.sites if site.physical_path] if file else []
        others = f", but {named(listed)}" if listed else ""
        return Violated(f"{name} does not name the folder of the site{others}: the service uses another one")
    if all(site.connection_digest != facts.web.connection_digest for site in sites):
        return Violated(f"{name} has another connection string than web.config")
    return None


def _in_use(sites: Sequence[GeneratedSite], site_path: str | None) -> Judged:
    """One of the entries must be active and have the site path of web.config. An attribute may be absent."""
    active = [site for site in sites if site.is_active]
    if not active:
        return Violated("sitedb.config has the site as not active")
    paths = [site.site_path for site in active if site.site_path is not None and ":" not in site.site_path]
    if site_path is None or not paths or _virtual(site_path) in map(_virtual, paths):
        return None
    return Violated(f"sitedb.config has the site path {paths[0][:40]}, web.config {site_path[:40]}")


def _unread(name: str, file: GeneratedFile | None) -> Unknown | None:
    if file is None:
        return Unknown(f"{name} was not read")
    if file.problem:
        return Unknown(f"{name}: {file.problem}")
    if not file.exists:
        return Unknown(f"there is no {name}; the service makes it once a day")
    return None if file.sites else Unknown(f"no site was found in {name}")


def _virtual(path: str) -> str:
    return path.strip(" /").casefold()


def _batch_size(facts: NodeFacts) -> str | None:
    return facts.generated.batch_size or "not set"


def _no_stale_status(facts: NodeFacts) -> Judged:
    """Judged by the clock of the node. The files of a running sync are new."""
    oldest = facts.generated.oldest_status
    if oldest is None or facts.clock - oldest < _STALE:
        return None
    return Violated(
        f"EktSyncStatus holds {counted(facts.generated.status_files, 'file')}, the oldest from {oldest:%Y-%m-%d}"
    )


def _passes_through(facts: NodeFacts) -> Judged:
    if (facts.web.pass_through_disabled or "").casefold() != "true":
        return None
    return Violated("ek_DisableAssetLoadBalancePassThrough is true")


GENERATED_RULES = (
    warning(
        id="config.generated-agrees",
        statement="sitedb.config and data.config, which the service makes from web.config, agree with it.",
        remedy="never edit these two files; if the site has moved, correct `site.path` in the cluster file; correct "
        "web.config if it is wrong, then wait for the daily regeneration (updateTime) or restart the service",
        source="ektron-facts 2.4; 6, rows 39 and 40",
        decide=each_node(_agrees),
        reads=(*CONNECTION, "web.site_path", "web.file", "generated.sitedb", "generated.data"),
        proves="an active entry for the folder of the site has the connection string and the site path of web.config",
        cannot_know="when the service writes the files again; few samples of them are known",
    ),
    warning(
        id="config.batchsize-alike",
        statement="batchsize in DbSync.config is the same on all nodes.",
        remedy="set the same batchsize in every DbSync.config and restart the services",
        source="ektron-facts 2.4; 6, row 22",
        decide=all_agree("batchsize", _batch_size),
        reads=("generated.batch_size",),
        proves="batchsize is the same on all nodes, or set on none",
        cannot_know="which value suits the databases",
    ),
    warning(
        id="sync.no-stale-status",
        statement="EktSyncStatus holds no status files that are a day old or older.",
        remedy="while no sync is running: restart the services on all nodes, delete the files in EktSyncStatus on each "
        "node (keep the folder), then restart the services again",
        source="ektron-facts 6, rows 25 and 26",
        decide=each_node(_no_stale_status),
        reads=("generated.oldest_status", "generated.status_files", "clock"),
        proves="there is no file in EktSyncStatus, or the oldest is younger than a day",
        cannot_know="whether a sync runs at this moment",
    ),
    warning(
        id="config.asset-pass-through",
        statement="A node fetches an asset that it does not have yet from the node that has it.",
        remedy="set ek_DisableAssetLoadBalancePassThrough to false in web.config if new files are sometimes missing",
        source="ektron-facts 2.3; 6, row 32",
        decide=each_node(_passes_through),
        reads=("web.pass_through_disabled",),
        proves="ek_DisableAssetLoadBalancePassThrough is not true",
        cannot_know="whether this version has the feature: the setting is absent in older ones",
    ),
)
