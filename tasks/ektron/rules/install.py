"""Invariants about what is installed: the same product, in the same place, on machines fit for it."""

import re
from collections import Counter

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import BinaryFacts, NodeFacts
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Severity,
    Unknown,
    Violated,
    all_agree,
    decided,
    each_node,
)

__all__ = ["INSTALL_RULES"]

_MAX_SKEW = 300.0  #: seconds (ektron-facts 3.5)
_WARN_SKEW = 60.0  #: seconds (ektron-facts 8.10)
_FIRST_CMS_MAJOR = 7  #: older numbers are those of the service's generation, 3.0.0.0 (ektron-facts 1.3)


def _own_name(_: ClusterFacts, facts: NodeFacts) -> Judged:
    if not facts.computer:
        return Unknown("the machine did not say its name")
    if facts.computer.casefold() != facts.node.casefold():
        return Violated(f"the machine at this address calls itself {facts.computer}")
    return None


def _service_installed(_: ClusterFacts, facts: NodeFacts) -> Judged:
    return None if facts.service.installed else Violated(f"there is no service {facts.service.name}")


def _files_usable(_: ClusterFacts, facts: NodeFacts) -> Judged:
    if not facts.site_exists:
        return Violated("the site folder is missing")
    for part in (facts.asset, facts.service_config, facts.web):
        file = part.file
        problem = file.problem or ("" if file.exists else "missing")
        if problem:
            return Violated(f"{file.path}: {problem}")
    return None


def _same_build(cluster: ClusterFacts) -> Decision:
    """Site build, service pack and update, then every program file by version, size and hash."""
    builds = all_agree("site build", _site_build)(cluster)
    if builds.verdict is InvariantState.REFUTED:
        return builds
    names = dict.fromkeys(binary.name for facts in cluster.facts.values() for binary in facts.binaries)
    wrong: dict[str, str] = {}
    for name in names:
        decision = _same_binary(cluster, name)
        wrong |= {node: why for node, why in decision.items() if node not in wrong}
    unsure = {node: "no program file was seen" for node, facts in cluster.facts.items() if not _has_programs(facts)}
    unsure |= {node: "site build unknown" for node, facts in cluster.facts.items() if _site_build(facts) is None}
    return decided(cluster, wrong, unsure)


def _same_binary(cluster: ClusterFacts, name: str) -> dict[str, str]:
    seen = {node: _binary(facts, name) for node, facts in cluster.facts.items()}
    counts = Counter(binary.hash for binary in seen.values())
    origin = seen.get(cluster.origin)
    common = max(counts, key=lambda value: (counts[value], origin is not None and origin.hash == value), default="")
    return {node: f"{name}: {_described(binary)}" for node, binary in seen.items() if binary.hash != common}


def _described(binary: BinaryFacts) -> str:
    """Version alone hides patches, so the size and the hash are told too (ektron-facts 1.3)."""
    if not binary.hash:
        return "missing, the other nodes have it"
    return f"differs from most ({binary.version or 'no version'}, {binary.size} bytes, {binary.hash[:12]})"


def _binary(facts: NodeFacts, name: str) -> BinaryFacts:
    return next((b for b in facts.binaries if b.name.casefold() == name.casefold()), BinaryFacts(name=name))


def _has_programs(facts: NodeFacts) -> bool:
    return any(binary.hash for binary in facts.binaries)


def _site_build(facts: NodeFacts) -> str | None:
    """Build, service pack and update, never derived from each other (ektron-facts 1.3)."""
    builds = facts.web.builds
    if not builds.get("ek_buildNumber"):
        return None
    parts = [
        f"{name} {builds[name]}" for name in ("ek_buildNumber", "ek_ServicePack", "ek_PatchUpdate") if builds.get(name)
    ]
    return ", ".join(parts)


def _service_not_older(_: ClusterFacts, facts: NodeFacts) -> Judged:
    site = _numbers(facts.web.builds.get("ek_buildNumber"))
    service = _service_build(facts)
    if site is None or service is None:
        return Unknown("the build of the service or of the site is not known")
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
    """The physical path; a node without the site is told apart by another rule."""
    return facts.web.file.path.rpartition("\\")[0].casefold() or None


def _precompiled(facts: NodeFacts) -> str | None:
    return "precompiled" if facts.precompiled else "not precompiled"


def _connection(facts: NodeFacts) -> str | None:
    """A keyed digest, shortened: enough to see who differs, useless for anything else."""
    return facts.web.connection_digest[:12] if facts.web.connection_digest else None


class _Skew:
    """Any two clocks differ by less than the limit; the ones far from the middle are the counter-examples."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def __call__(self, cluster: ClusterFacts) -> Decision:
        skews = sorted(facts.skew for facts in cluster.facts.values())
        if not skews or skews[-1] - skews[0] < self._limit:
            return decided(cluster, {}, {})
        middle = skews[len(skews) // 2]
        far = {
            node: f"{facts.skew - middle:+.0f} s against the other nodes"
            for node, facts in cluster.facts.items()
            if abs(facts.skew - middle) >= self._limit / 2
        }
        return decided(cluster, far, {})


INSTALL_RULES = (
    Invariant(
        id="node.is-itself",
        statement="Each address leads to the machine of that name.",
        remedy="correct `host` or `name` of the node in the cluster file; nothing may be written to the wrong machine",
        source="ektron-facts 2.3: certificate files carry the machine's own name",
        decide=each_node(_own_name),
        prerequisite=True,
    ),
    Invariant(
        id="service.installed",
        statement="The edition's Windows service is installed on each node.",
        remedy="install the same version as on the other servers (procedure: min site), or correct `edition`",
        source="ektron-facts 1.1",
        decide=each_node(_service_installed),
        prerequisite=True,
    ),
    Invariant(
        id="config.files-usable",
        statement="The three configuration files are there, and readable as XML.",
        remedy="restore the file from a backup or another server",
        source="procedure, prerequisites; ektron-facts 2",
        decide=each_node(_files_usable),
        prerequisite=True,
    ),
    Invariant(
        id="version.same-build",
        statement="Site build, service pack and program files are the same on all nodes.",
        remedy="bring every server to the same version, service pack and cumulative update; eSync cannot upgrade",
        source="procedure, min site step 1; ektron-facts 1.3, 1.4",
        decide=_same_build,
        prerequisite=True,
    ),
    Invariant(
        id="version.service-newer-or-equal",
        statement="The Windows service is at least as new as the site it serves.",
        remedy="install the newest service package on this server",
        source="ektron-facts 1.4",
        decide=each_node(_service_not_older),
        prerequisite=True,
    ),
    Invariant(
        id="site.same-path",
        statement="The site lies in the same folder on all nodes.",
        remedy="move the site to the path the other servers use",
        source="ektron-facts 3.5; 6, row 33",
        decide=all_agree("site folder", _site_folder),
        prerequisite=True,
    ),
    Invariant(
        id="site.precompiled-all-or-none",
        statement="The site is precompiled on all nodes or on none.",
        remedy="precompile the min sites too, or none of them (procedure, min site step 3)",
        source="procedure, min site step 3; ektron-facts 2.7",
        decide=all_agree("the site is", _precompiled),
        prerequisite=True,
    ),
    Invariant(
        id="database.same-connection-string",
        statement="All nodes use the same connection string.",
        remedy="make the entry Ektron.DbConnection in web.config the same on all servers, also in password and options",
        source="procedure, prerequisites; ektron-facts 3.5",
        decide=all_agree("connection string (digest)", _connection),
        prerequisite=True,
    ),
    Invariant(
        id="clock.skew-below-300s",
        statement="Any two clocks differ by less than five minutes.",
        remedy="set the clock and repair its time source: w32tm /resync",
        source="ektron-facts 3.5; 6, row 14",
        decide=_Skew(_MAX_SKEW),
        prerequisite=True,
    ),
    Invariant(
        id="clock.skew-below-60s",
        statement="Any two clocks differ by less than a minute.",
        remedy="look at the time source before it becomes five minutes: w32tm /query /status",
        source="ektron-facts 8.10",
        decide=_Skew(_WARN_SKEW),
        severity=Severity.WARNING,
    ),
)
