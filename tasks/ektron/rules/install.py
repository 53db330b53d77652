"""Invariants about the installation: the same product, in the same place, on suitable machines."""

import re

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import BinaryFacts, NodeFacts
from tasks.ektron.rules.findings import (
    Decide,
    Decision,
    InvariantState,
    Judged,
    Unknown,
    Violated,
    all_agree,
    decided,
    each_node,
    most_common,
    prerequisite,
    warning,
)

__all__ = ["INSTALL_RULES"]

_MAX_SKEW = 300.0  #: seconds (ektron-facts 3.5)
_WARN_SKEW = 60.0  #: seconds (ektron-facts 8.10)
_FIRST_CMS_MAJOR = 7  #: lower numbers are the generation of the service, 3.0.0.0 (ektron-facts 1.3)


def _own_name(facts: NodeFacts) -> Judged:
    if not facts.computer:
        return Unknown("the machine did not report its name")
    if facts.computer.casefold() != facts.node.casefold():
        return Violated(f"the machine at this address is named {facts.computer}")
    return None


def _service_installed(facts: NodeFacts) -> Judged:
    return None if facts.service.installed else Violated(f"there is no service {facts.service.name}")


def _files_usable(facts: NodeFacts) -> Judged:
    if not facts.site_exists:
        return Violated("the site folder is missing")
    for part in (facts.asset, facts.service_config, facts.web):
        file = part.file
        problem = file.problem or ("" if file.exists else "missing")
        if problem:
            return Violated(f"{file.path}: {problem}")
    return None


def _same_build(cluster: ClusterFacts) -> Decision:
    """Compares site build, service pack and update, then each program file by its hash."""
    builds = all_agree("site build", _site_build)(cluster)
    if builds.verdict is InvariantState.REFUTED:
        return builds
    programs = {node: {b.name.casefold(): b for b in facts.binaries} for node, facts in cluster.facts.items()}
    names = {b.name.casefold(): b.name for facts in cluster.facts.values() for b in facts.binaries}
    violated: dict[str, str] = {}
    for key, name in names.items():
        seen = {node: binaries.get(key, BinaryFacts(name=name)) for node, binaries in programs.items()}
        common = most_common({node: binary.hash for node, binary in seen.items()}, cluster.origin)
        for node, binary in seen.items():
            if binary.hash != common:
                violated.setdefault(node, f"{name}: {_described(binary)}")
    unknown = {
        node: "no program file was seen"
        for node, binaries in programs.items()
        if not any(binary.hash for binary in binaries.values())
    }
    unknown |= {node: "site build unknown" for node, facts in cluster.facts.items() if _site_build(facts) is None}
    return decided(cluster, violated, unknown)


def _described(binary: BinaryFacts) -> str:
    """With size and hash, because patches do not always change the version (ektron-facts 1.3)."""
    if not binary.hash:
        return "missing, the other nodes have it"
    return f"differs from most ({binary.version or 'no version'}, {binary.size} bytes, {binary.hash[:12]})"


def _site_build(facts: NodeFacts) -> str | None:
    """Build, service pack and update. None of them can be derived from another (ektron-facts 1.3)."""
    builds = facts.web.builds
    if not builds.get("ek_buildNumber"):
        return None
    parts = [
        f"{name} {builds[name]}" for name in ("ek_buildNumber", "ek_ServicePack", "ek_PatchUpdate") if builds.get(name)
    ]
    return ", ".join(parts)


def _service_not_older(facts: NodeFacts) -> Judged:
    site = _numbers(facts.web.builds.get("ek_buildNumber"))
    service = _service_build(facts)
    if site is None or service is None:
        return Unknown("the build of the service or of the site is unknown")
    if service < site:
        return Violated(f"the service is {_dotted(service)}, the site {_dotted(site)}")
    return None


def _service_build(facts: NodeFacts) -> tuple[int, ...] | None:
    exe = facts.binaries[0].version if facts.binaries else None
    for text in (facts.service_config.install_version, exe):
        numbers = _numbers(text)
        if numbers and numbers[0] >= _FIRST_CMS_MAJOR:
            return numbers
    return None


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """`8.0.1.087SP1.03` as (8, 0, 1, 87): the build, without what service packs append."""
    match = re.match(r"\s*(\d+(?:\.\d+){1,3})", text or "")
    return tuple(int(number) for number in match[1].split(".")) if match else None


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _site_folder(facts: NodeFacts) -> str | None:
    """The physical path. Another rule reports a node without the site."""
    return facts.web.file.path.rpartition("\\")[0].casefold() or None


def _precompiled(facts: NodeFacts) -> str:
    return "precompiled" if facts.precompiled else "not precompiled"


def _connection(facts: NodeFacts) -> str | None:
    """A keyed digest, shortened: it shows which node differs and nothing else."""
    return facts.web.connection_digest[:12] if facts.web.connection_digest else None


def _skew_below(limit: float) -> Decide:
    """Any two clocks differ by less than the limit (seconds). Counter-examples: the clocks far from the median."""

    def decide(cluster: ClusterFacts) -> Decision:
        skews = sorted(facts.skew for facts in cluster.facts.values())
        if not skews or skews[-1] - skews[0] < limit:
            return decided(cluster, {}, {})
        median = skews[len(skews) // 2]
        far = {
            node: f"{facts.skew - median:+.0f} s against the other nodes"
            for node, facts in cluster.facts.items()
            if abs(facts.skew - median) >= limit / 2
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
    ),
    prerequisite(
        id="service.installed",
        statement="The edition's Windows service is installed on each node.",
        remedy="install the same version as on the other servers (procedure: min site), or correct `edition`",
        source="ektron-facts 1.1",
        decide=each_node(_service_installed),
    ),
    prerequisite(
        id="config.files-usable",
        statement="The three configuration files exist and are valid XML.",
        remedy="restore the file from a backup or another server",
        source="procedure, prerequisites; ektron-facts 2",
        decide=each_node(_files_usable),
    ),
    prerequisite(
        id="version.same-build",
        statement="Site build, service pack and program files are the same on all nodes.",
        remedy="install the same version, service pack and cumulative update on every server; eSync cannot upgrade",
        source="procedure, min site step 1; ektron-facts 1.3, 1.4",
        decide=_same_build,
    ),
    prerequisite(
        id="version.service-newer-or-equal",
        statement="The Windows service is at least as new as the site it serves.",
        remedy="install the newest service package on this server",
        source="ektron-facts 1.4",
        decide=each_node(_service_not_older),
    ),
    prerequisite(
        id="site.same-path",
        statement="The site is in the same folder on all nodes.",
        remedy="move the site to the path that the other servers use",
        source="ektron-facts 3.5; 6, row 33",
        decide=all_agree("site folder", _site_folder),
    ),
    prerequisite(
        id="site.precompiled-all-or-none",
        statement="The site is precompiled on all nodes or on none.",
        remedy="precompile the site on all servers or on none (procedure, min site step 3)",
        source="procedure, min site step 3; ektron-facts 2.7",
        decide=all_agree("the site is", _precompiled),
    ),
    prerequisite(
        id="database.same-connection-string",
        statement="All nodes use the same connection string.",
        remedy="make the entry Ektron.DbConnection in web.config identical on all servers, with password and options",
        source="procedure, prerequisites; ektron-facts 3.5",
        decide=all_agree("connection string (digest)", _connection),
    ),
    prerequisite(
        id="clock.skew-below-300s",
        statement="Any two clocks differ by less than five minutes.",
        remedy="correct the clock and repair its time source: w32tm /resync",
        source="ektron-facts 3.5; 6, row 14",
        decide=_skew_below(_MAX_SKEW),
    ),
    warning(
        id="clock.skew-below-60s",
        statement="Any two clocks differ by less than a minute.",
        remedy="check the time source before the difference reaches five minutes: w32tm /query /status",
        source="ektron-facts 8.10",
        decide=_skew_below(_WARN_SKEW),
    ),
)
