"""Invariants about what the product writes by itself. Warnings: their files are read by shapes of few witnesses."""

from datetime import timedelta

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import GeneratedFile, NodeFacts
from tasks.ektron.rules.findings import Invariant, Judged, Severity, Unknown, Violated, all_agree, each_node

__all__ = ["GENERATED_RULES"]

_STALE = timedelta(days=1)


def _agrees(_: ClusterFacts, facts: NodeFacts) -> Judged:
    """Both files are made from web.config, once a day and perhaps when the service starts (ektron-facts 2.4)."""
    wanted, seen = facts.web.connection_digest, facts.generated
    if wanted is None:
        return Unknown("the connection string of web.config is not known")
    for judged in (_sitedb(seen.sitedb, facts, wanted), _data(seen.data, wanted)):
        if judged is not None:
            return judged
    return None


def _sitedb(file: GeneratedFile | None, facts: NodeFacts, wanted: str) -> Judged:
    doubt = _unread(file, "sitedb.config")
    if file is None or doubt is not None:
        return doubt
    folder = _folded(facts.web.file.path.rpartition("\\")[0])
    here = [site for site in file.sites if site.physical_path is None or _folded(site.physical_path) == folder]
    if not here:
        return Violated("sitedb.config does not name the site's folder: the service uses another one")
    if all(site.connection_digest != wanted for site in here):
        return Violated("sitedb.config has another connection string than web.config")
    return None


def _data(file: GeneratedFile | None, wanted: str) -> Judged:
    doubt = _unread(file, "data.config")
    if file is None or doubt is not None:
        return doubt
    if all(site.connection_digest != wanted for site in file.sites):
        return Violated("data.config has another connection string than web.config")
    return None


def _unread(file: GeneratedFile | None, name: str) -> Unknown | None:
    if file is None:
        return Unknown(f"{name} was not looked at")
    if file.problem:
        return Unknown(f"{name}: {file.problem}")
    if not file.exists:
        return Unknown(f"there is no {name}; the service makes it once a day")
    return None if file.sites else Unknown(f"no site was found in {name}")


def _folded(path: str) -> str:
    return path.rstrip("\\").casefold()


def _batch_size(facts: NodeFacts) -> str | None:
    return facts.generated.batch_size or "not set"


def _no_stale_status(_: ClusterFacts, facts: NodeFacts) -> Judged:
    """By the node's own clock; while a sync runs the files are young."""
    oldest = facts.generated.oldest_status
    if oldest is None or facts.clock - oldest < _STALE:
        return None
    return Violated(f"EktSyncStatus holds {facts.generated.status_files} files, the oldest of {oldest:%Y-%m-%d}")


def _passes_through(_: ClusterFacts, facts: NodeFacts) -> Judged:
    if (facts.web.pass_through_disabled or "").casefold() != "true":
        return None
    return Violated("ek_DisableAssetLoadBalancePassThrough is true")


GENERATED_RULES = (
    Invariant(
        id="config.generated-agrees",
        statement="What the service made of web.config, sitedb.config and data.config, agrees with it.",
        remedy="never edit the two; correct web.config if it is wrong, then wait for the daily regeneration "
        "(updateTime) or restart the service",
        source="ektron-facts 2.4; 6, rows 39 and 40",
        decide=each_node(_agrees),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="config.batchsize-alike",
        statement="batchsize in DbSync.config is the same on all nodes.",
        remedy="set the same batchsize in every DbSync.config and restart the services",
        source="ektron-facts 2.4; 6, row 22",
        decide=all_agree("batchsize", _batch_size),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="sync.no-stale-status",
        statement="EktSyncStatus holds no status of a sync of yesterday or before.",
        remedy="while no sync runs: restart the services on all nodes, empty EktSyncStatus on each (keep the folder), "
        "restart again",
        source="ektron-facts 6, rows 25 and 26",
        decide=each_node(_no_stale_status),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="config.asset-pass-through",
        statement="Assets that have not arrived on a node yet are fetched from the node that has them.",
        remedy="set ek_DisableAssetLoadBalancePassThrough to false in web.config, if fresh files are missing at times",
        source="ektron-facts 2.3; 6, row 32",
        decide=each_node(_passes_through),
        severity=Severity.WARNING,
    ),
)
