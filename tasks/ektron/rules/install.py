"""Invariants about the installation: the same product, in the same place, on suitable machines."""

from functools import partial
from pathlib import PureWindowsPath

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.editions import executable_of
from tasks.ektron.facts.configuration import ServiceConfigFacts, WebFacts
from tasks.ektron.facts.machine import BinaryFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.refusals import EditionUnknown
from tasks.ektron.rules.effective import CONNECTION, comparable_connection, service_build, why_not_comparable
from tasks.ektron.rules.findings import (
    Decide,
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Unknown,
    Violated,
    all_agree,
    decided,
    each_node,
    most_common,
    pool_values,
    prerequisite,
    warning,
)
from tasks.ektron.rules.upgrades import told_apart
from tasks.ektron.versions import dotted, installed_version, is_older, spelled
from tasks.ektron.wording import named

__all__ = ["INSTALL_RULES"]

_NO_SITE = "correct `site.path` in the cluster file, or install the site on this server (procedure: min site)"
_RESTORE = "restore the file from a backup; a copy of another server names the certificates of that server"
_MAX_SKEW = 300.0  #: seconds (ektron-facts 3.5)
_WARN_SKEW = 60.0  #: seconds (ektron-facts 8.10)


def _own_name(facts: NodeFacts) -> Judged:
    if not facts.computer:
        return Unknown("the machine did not report its name")
    if facts.computer.casefold() != facts.node.casefold():
        return Violated(f"the machine at this address is named {facts.computer}")
    return None


def _service_installed(facts: NodeFacts) -> Judged:
    return None if facts.service.installed else Violated(f"there is no service {facts.service.name}")


def _runs_from_folder(facts: NodeFacts) -> Judged:
    """A program of another name starts the service for it: then only the cluster file knows the folder."""
    try:
        program = PureWindowsPath(executable_of(facts.service.image_path, facts.system_drive))
    except EditionUnknown:
        return None
    config = PureWindowsPath(facts.service_config.file.path)
    if config.name.casefold() != f"{program.name}.config".casefold() or config.parent == program.parent:
        return None
    return Violated(f"the service runs from {program.parent}, the cluster file says {config.parent}")


def _files_usable(facts: NodeFacts) -> Judged:
    """Each file that cannot be used has a remedy of its own: what helps one that is cut off would harm another."""
    if not facts.site_exists:
        return Violated("the site folder is missing", _NO_SITE)
    for part in (facts.asset, facts.service_config, facts.web):
        file = part.file
        if problem := file.problem or ("" if file.exists else "missing"):
            remedy = file.remedy or _RESTORE if facts.web.file.exists else _NO_SITE
            return Violated(f"{file.path}: {problem}", remedy)
    return None


def _settings_known(facts: ServiceConfigFacts | WebFacts) -> bool:
    return facts.file.exists and not facts.file.problem and "appSettings" not in facts.encrypted


def _installed_version(facts: NodeFacts) -> str | None:
    """The text that the product compares, in one spelling."""
    if not _settings_known(facts.service_config):
        return None
    return spelled(facts.service_config.install_version or "") or "not set"


def _install_build(facts: NodeFacts) -> str | None:
    if not _settings_known(facts.web):
        return None
    names = ("ek_InstallBuild", "ek_cmsversion")
    return ", ".join(f"{name} {spelled(facts.web.builds.get(name, '')) or 'not set'}" for name in names)


def _same_build(cluster: ClusterFacts) -> Decision:
    """Compares site build, service pack and update, then each program file by its hash."""
    builds = all_agree("site build", _site_build)(cluster)
    if builds.verdict is InvariantState.REFUTED:
        return builds
    programs = {node: {b.name.casefold(): b for b in facts.binaries} for node, facts in cluster.facts.items()}
    names = {b.name.casefold(): b.name for facts in cluster.facts.values() for b in facts.binaries}
    violated: dict[str, str] = {}
    for key, name in names.items():
        absent = BinaryFacts(name=name)
        seen = {node: binaries.get(key, absent) for node, binaries in programs.items()}
        common = most_common({node: binary.hash for node, binary in seen.items()}, cluster.origin)
        for node, binary in seen.items():
            if binary.hash != common:
                violated.setdefault(node, f"{name}: {_described(binary, common)}")
    unknown = {
        node: "no program file was seen"
        for node, binaries in programs.items()
        if not any(binary.hash for binary in binaries.values())
    }
    unknown |= {node: "site build unknown" for node, facts in cluster.facts.items() if _site_build(facts) is None}
    return decided(cluster, violated, unknown)


def _described(binary: BinaryFacts, common: str | None) -> str:
    """With size and hash, because patches do not always change the version (ektron-facts 1.3)."""
    if not binary.hash:
        return "missing, the other nodes have it"
    than = "from most" if common is not None else "between the nodes"
    return f"differs {than} ({binary.version or 'no version'}, {binary.size} bytes, {binary.hash[:12]})"


def _site_build(facts: NodeFacts) -> str | None:
    """Build, service pack and update. None of them can be derived from another (ektron-facts 1.3)."""
    builds = {name: text for name, value in facts.web.builds.items() if (text := spelled(value))}
    if "ek_buildNumber" not in builds:
        return None
    names = ("ek_buildNumber", "ek_ServicePack", "ek_PatchUpdate")
    return ", ".join(f"{name} {builds[name]}" for name in names if name in builds)


def _service_not_older(facts: NodeFacts) -> Judged:
    """Compares the parts that both builds have: the text of the service may name the release only."""
    site = installed_version(facts.web.builds.get("ek_buildNumber"))
    service = service_build(facts)
    if site is None or service is None:
        return Unknown("the build of the service or of the site is unknown")
    if is_older(service, site):
        return Violated(f"the service is {dotted(service)}, the site {dotted(site)}")
    return None


def _site_folder(facts: NodeFacts) -> str | None:
    """The physical path. Another rule reports a node without the site."""
    return facts.web.file.folder.casefold() or None


def _virtual_path(facts: NodeFacts) -> str | None:
    """`ek_sitePath` in one spelling: `/site/` and `site` are the same."""
    if not _settings_known(facts.web):
        return None
    return "not set" if facts.web.site_path is None else f"/{facts.web.site_path.strip(' /').casefold()}"


def _precompiled(facts: NodeFacts) -> str:
    return "precompiled" if facts.precompiled else "not precompiled"


def _same_connection(cluster: ClusterFacts) -> Decision:
    """Each pool has its own database, so a string that another pool has is not the right one (ektron-facts 10)."""
    per_pool = not cluster.shared_database
    agree = all_agree(
        "connection string (digest)",
        partial(comparable_connection, cluster),
        within_pool=per_pool,
        of_one_pool=per_pool,
        why_unknown=why_not_comparable,
    )
    return agree(cluster)


def _one_database_per_pool(cluster: ClusterFacts) -> Decision:
    """Compares the connection strings of the pools; another rule reports a node that differs from its pool."""
    if cluster.shared_database:
        return Decision(InvariantState.PROVEN, "`site.database: shared`: all pools use one database on purpose")
    databases = pool_values(cluster, partial(comparable_connection, cluster))
    violated: dict[str, str] = {}
    for pool, database in databases.items():
        same = [other for other, theirs in databases.items() if other != pool and theirs == database]
        if same:
            why = f"pool {pool} uses the same database as pool {named(same)}"
            violated |= dict.fromkeys(cluster.pool_members[pool], why)
    several = len(cluster.pool_members) > 1
    silent = {
        node: why_not_comparable(facts)
        for node, facts in cluster.facts.items()
        if several and comparable_connection(cluster, facts) is None
    }
    return decided(cluster, violated, silent)


def _skew_below(limit: float) -> Decide:
    """Any two clocks differ by less than the limit (seconds). Counter-examples: the clocks far from the right one.

    The right one is the clock with which most nodes agree; in a draw the one nearest to esync's clock.
    """

    def decide(cluster: ClusterFacts) -> Decision:
        skews = [facts.skew for facts in cluster.facts.values()]
        if not skews or max(skews) - min(skews) < limit:
            return decided(cluster, {}, {})
        right = max(skews, key=lambda one: (sum(abs(one - other) < limit / 2 for other in skews), -abs(one)))
        far = {
            node: f"{facts.skew - right:+.0f} s against the other nodes, {facts.skew:+.0f} s against esync's clock"
            for node, facts in cluster.facts.items()
            if abs(facts.skew - right) >= limit / 2
        }
        return decided(cluster, far, {})

    return decide


INSTALL_RULES = (
    prerequisite(
        id="node.is-itself",
        statement="The machine at each address has the name of the node.",
        remedy="correct `host` or `name` of the node in the cluster file; nothing may be written to the wrong machine",
        source="ektron-facts 2.3: the names of certificate files contain the name of the machine",
        decide=each_node(_own_name),
        reads=("node", "computer"),
        proves="the name that the machine reports is the name of the node, in any case",
        cannot_know="whether another machine has the same name",
    ),
    prerequisite(
        id="service.installed",
        statement="The edition's Windows service is installed on each node.",
        remedy="install the same version as on the other servers (procedure: min site), or correct `edition`",
        source="ektron-facts 1.1",
        decide=each_node(_service_installed),
        reads=("service",),
        proves="Windows knows a service with the name of the edition",
        cannot_know="whether the program of the service is complete; the rules about versions and about the running "
        "service show that",
    ),
    prerequisite(
        id="service.runs-from-folder",
        statement="The Windows service of each node runs from the folder in which esync reads and writes its files.",
        remedy="remove `service_folder` from `site` in the cluster file: then the folder is the one in the registry of "
        "each server, also where another one is a link to it",
        source="ektron-facts 1.3, where the service lives; 9, live file",
        decide=each_node(_runs_from_folder),
        reads=("service.image_path", "service_config.file.path", "system_drive"),
        proves="the program in the ImagePath of the service is in that folder",
        cannot_know="the folder of a service that another program starts for it",
    ),
    prerequisite(
        id="config.files-usable",
        statement="The three configuration files exist and are valid XML.",
        remedy=_RESTORE,
        source="procedure, prerequisites; ektron-facts 2",
        decide=each_node(_files_usable),
        reads=("site_exists", "asset.file", "service_config.file", "web.file"),
        proves="the site folder and the three files exist, and each file is well-formed XML of the expected kind",
        cannot_know="whether the product accepts every value in them",
    ),
    prerequisite(
        id="version.same-build",
        statement="Site build, service pack and program files are the same on all nodes.",
        remedy="install the same version, service pack and cumulative update on every server; eSync cannot upgrade",
        source="procedure, min site step 1; ektron-facts 1.3, 1.4",
        decide=told_apart(_same_build),
        reads=("web.builds", "binaries"),
        proves="ek_buildNumber, ek_ServicePack and ek_PatchUpdate are the same in web.config, and each program file "
        "has the same SHA-256 on all nodes",
        cannot_know="whether files that are not in its list, such as those of other products in bin, are the same",
    ),
    prerequisite(
        id="version.same-installed-version",
        statement="The service of each node carries the same installed version.",
        remedy="install the same service pack and cumulative update of the Windows service on every server that syncs",
        source="ektron-facts 10, installedversion; 1.4",
        decide=all_agree("installedversion", _installed_version),
        reads=("service_config.install_version", "service_config.file", "service_config.encrypted"),
        proves="InstallVersion, or installedversion, in the configuration of the service is the same text on all nodes",
        cannot_know="whether the text is true: the setup program of the product writes it, and an editor can change it",
    ),
    warning(
        id="version.same-install-build",
        statement="ek_InstallBuild and ek_cmsversion are the same on all nodes.",
        remedy="find out which server was installed or updated in another way; both values are written by the setup",
        source="ektron-facts 1.3; 2.5",
        decide=all_agree("web.config:", _install_build),
        reads=("web.builds", "web.encrypted", "web.file"),
        proves="both values in web.config are the same on all nodes",
        cannot_know="whether a difference matters: ek_InstallBuild can be older than the installed service pack",
    ),
    prerequisite(
        id="version.service-newer-or-equal",
        statement="The Windows service is at least as new as the site it serves.",
        remedy="install the newest service package on this server",
        source="ektron-facts 1.4",
        decide=each_node(_service_not_older),
        reads=("service_config.install_version", "binaries", "web.builds"),
        proves="the build of the service, from its configuration or from its program, is not lower than ek_buildNumber",
        cannot_know="other sites of the same machine, which the service serves, too",
    ),
    prerequisite(
        id="site.same-path",
        statement="The site is in the same folder on all nodes of a pool.",
        remedy="move the site to the path that the other servers of its pool use",
        source="ektron-facts 3.5; 10; 6, row 33",
        decide=all_agree("site folder", _site_folder, within_pool=True),
        reads=("web.file", "cluster.pools"),
        proves="web.config was found in the same folder on all nodes of each pool",
        cannot_know="where IIS really publishes the site: the folder is the one in the cluster file",
    ),
    Invariant(
        id="site.same-virtual-path",
        statement="ek_sitePath is the same on all nodes of a pool.",
        remedy="set ek_sitePath in web.config to the value of the other servers of the pool",
        source="ektron-facts 2.3; 6, row 33",
        decide=all_agree("ek_sitePath", _virtual_path, within_pool=True),
        reads=("web.site_path", "web.encrypted", "web.file", "cluster.pools"),
        proves="the value in web.config is the same on all nodes of each pool; outer slashes and case do not count",
        cannot_know="where IIS really publishes the site",
    ),
    prerequisite(
        id="site.precompiled-all-or-none",
        statement="In each pool the site is precompiled on all nodes or on none.",
        remedy="precompile the site on all servers of the pool or on none (procedure, min site step 3)",
        source="procedure, min site step 3; ektron-facts 2.7",
        decide=all_agree("the site is", _precompiled, within_pool=True),
        reads=("precompiled", "cluster.pools"),
        proves="PrecompiledApp.config is in the site root on all nodes of a pool, or on none",
        cannot_know="whether the precompiled pages belong to the present version",
    ),
    prerequisite(
        id="database.same-connection-string",
        statement="All nodes of a pool use the same connection string; with `site.database: shared` all nodes.",
        remedy="make the entry Ektron.DbConnection in web.config identical on all servers of this pool, with password "
        "and options; never copy it from a server of another pool, which has its own database",
        source="procedure, prerequisites; ektron-facts 3.5; 10",
        decide=_same_connection,
        reads=("node", *CONNECTION, "cluster.pools", "cluster.shared_database"),
        proves="the keyed digests of the connection strings are the same on all nodes of each pool",
        cannot_know="whether the database answers; two spellings of one database count as different",
    ),
    warning(
        id="database.one-per-pool",
        statement="Each pool has its own database, unless `site.database: shared` says that all use one.",
        remedy="a sync is between two databases: correct `pool` in the cluster file, give each pool its own database, "
        "or set `site.database: shared` if one database is meant",
        source="ektron-facts 10, databases",
        decide=_one_database_per_pool,
        reads=("node", *CONNECTION, "cluster.pools", "cluster.shared_database"),
        proves="no two pools have the same connection string, or the cluster file says `site.database: shared`",
        cannot_know="whether two different connection strings lead to one database",
    ),
    prerequisite(
        id="clock.skew-below-300s",
        statement="Any two clocks differ by less than five minutes.",
        remedy="correct the clock and repair its time source: w32tm /resync",
        source="ektron-facts 3.5; 6, row 14",
        decide=_skew_below(_MAX_SKEW),
        reads=("skew",),
        proves="the clocks, compared with the clock of the run store, differ by less than 300 seconds",
        cannot_know="whether the clocks will stay together; a difference below the time in which the node answers",
    ),
    warning(
        id="clock.skew-below-60s",
        statement="Any two clocks differ by less than a minute.",
        remedy="check the time source before the difference reaches five minutes: w32tm /query /status",
        source="ektron-facts 8.10",
        decide=_skew_below(_WARN_SKEW),
        reads=("skew",),
        proves="the clocks, compared with the clock of the run store, differ by less than 60 seconds",
        cannot_know="whether the clocks will stay together; a difference below the time in which the node answers",
    ),
)
