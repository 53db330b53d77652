"""Why a file did not reach a server: the most likely row of the failure table (ektron-facts 6).

First what the rules refute on the server itself, in the order of `explain`; then status files that were there before;
then what they refute on the server where the sync was started; then what the sync said, and what is known of others. A
cause that only might be one is called so.
"""

import re
from collections.abc import Mapping, Sequence

from tasks.ektron.facts.values import Fact
from tasks.ektron.rules.explain import Answer, explain
from tasks.ektron.rules.findings import Findings
from tasks.ektron.sync.answers import Entry
from tasks.ektron.sync.seen import SiteSeen

__all__ = ["ROWS", "SAID", "Cause", "likely_cause", "row_of_rule", "row_of_text", "unsent"]

#: Rule -> row of the failure table that its refutation means.
ROWS: Mapping[str, int] = {
    "version.same-build": 15,
    "version.same-installed-version": 15,
    "site.same-path": 33,
    "clock.skew-below-300s": 14,
    "node.places-writable": 41,
    "family.origin-present": 7,
    "family.complete": 7,
    "family.identical-across-nodes": 8,
    "keys.complete": 5,
    "keys.match-cer": 9,
    "family.server-certificate-is-own": 42,
    "config.service-load-balanced": 28,
    "config.asset-load-balanced": 27,
    "family.web-root-copy": 4,
    "config.web-endpoints": 6,
    "config.encoded-value-agrees": 3,
    "service.running": 10,
    "service.started-after-last-change": 30,
    "service.listening-8732": 12,
    "network.reach-8732-all-pairs": 11,
    "site.wspath-answers": 1,
    "site.service-files-allowed": 13,
}
#: What the product says -> row. Words of its messages, in any order and case (ektron-facts 6).
SAID: tuple[tuple[str, int], ...] = (
    (r"assetlibrary.*object reference", 20),
    (r"faulted", 2),
    (r"object reference", 1),
    (r"cannot find the file", 4),
    (r"407|proxy|anonymous.*forbidden|\b403\b", 13),
    (r"clock|synchroni[sz]ed time|time.*differ", 14),
    (r"contractfilter|initsession", 15),
    (r"max index", 17),
    (r"server index", 18),
    (r"not staged", 19),
    (r"metaconfig", 21),
    (r"out ?of ?memory", 22),
    (r"deletecommand", 23),
    (r"(foreign|primary) key", 24),
    (r"not authori[sz]ed", 27),
    (r"licen[cs]e", 35),
    (r"site details|connection string", 36),
    (r"search ?catalogs", 37),
    (r"expired", 43),
    (r"disk|not enough space|access.*denied", 41),
    (r"no (public )?key|publickcertkeys", 5),
    (r"another key|certificate|security|encoded", 9),
    (r"already in progress", 46),
    (r"actively refused|could not connect|cannot connect|unreachable|no endpoint", 11),
    (r"loadbalancenotavailable|load balance.*not available", 29),
)
_STALE, _SILENT, _LIBRARY, _LAG = 25, 10, 31, 32
_NOT_AVAILABLE = "syncloadbalancenotavailable"
_LIBRARY_FOLDERS = ("uploadedfiles", "uploadedimages")


class Cause(Fact):
    """The most likely cause.

    Attributes:
        row: of the failure table; 0 if none fits.
        because: the evidence, one sentence.
        rule: the rule that was refuted; empty where the sync itself said it.
        certain: whether the evidence is about this very server.
    """

    node: str
    row: int
    because: str
    remedy: str = ""
    rule: str = ""
    certain: bool = True


def likely_cause(
    node: str,
    *,
    findings: Findings | None,
    entries: Sequence[Entry],
    sites: Mapping[str, SiteSeen],
    folder: str,
    start: str = "",
    unreached: str = "",
) -> Cause:
    """The most likely cause why a file did not reach a server.

    Args:
        node: the server.
        findings: of all rules; None if the cluster was not examined.
        entries: of the sync, and of load balancing since.
        sites: what was seen of the servers before the sync.
        folder: of the file, below the site root.
        start: the server on which the sync was started.
        unreached: why the server did not answer; empty if it did.
    """
    if unreached:
        return Cause(node=node, row=_SILENT, because=unreached, remedy="bring the server back, then prove again")
    return (
        _refuted(node, findings)
        or _stale(node, sites)
        or _on(start, node, findings)
        or _said(node, entries, findings, sites)
        or _down(node, sites)
        or _elsewhere(node, findings)
        or _unknown(node, folder)
    )


def unsent(node: str, why: str) -> Cause:
    """The cause where a missing file says nothing about the sync."""
    return Cause(node=node, row=0, because=why, remedy="the sync has to be proven again", certain=False)


def row_of_rule(rule: str) -> int:
    """The row that the refutation of a rule means; 0 for none."""
    return ROWS.get(rule, 0)


def row_of_text(text: str) -> int:
    """The row that a message of the product means; 0 for none."""
    return next((row for pattern, row in SAID if re.search(pattern, text, re.IGNORECASE)), 0)


def _refuted(node: str, findings: Findings | None) -> Cause | None:
    found = explain(node, findings) if findings else None
    if found is None or found.answer is not Answer.CAUSE or found.cause is None:
        return None
    rule = found.cause.invariant
    return Cause(
        node=node, row=row_of_rule(rule), because=f"{rule}: {found.because}", remedy=found.cause.remedy, rule=rule
    )


def _on(other: str, node: str, findings: Findings | None) -> Cause | None:
    """What is refuted on another server, such as that where the sync was started, as the cause for this one."""
    found = _refuted(other, findings) if other and other != node else None
    return found and found.model_copy(update={"node": node, "because": f"on {other}: {found.because}"})


def _stale(node: str, sites: Mapping[str, SiteSeen]) -> Cause | None:
    seen = sites.get(node)
    if seen is None or not seen.status_files:
        return None
    oldest = min(seen.status_files, key=lambda one: one.changed)
    return Cause(
        node=node,
        row=_STALE,
        because=f"{oldest.name} was in EktSyncStatus before the sync, left on {oldest.changed:%Y-%m-%d %H:%M} UTC",
        remedy="move it aside: esync sync status FILE --clear-stale",
    )


def _said(
    node: str, entries: Sequence[Entry], findings: Findings | None, sites: Mapping[str, SiteSeen]
) -> Cause | None:
    """What the sync said about this server, or else about itself.

    Where it names another server on which a rule is refuted, that rule is the cause.
    """
    told = [entry for entry in entries if entry.failed or entry.code.casefold() == _NOT_AVAILABLE]
    ours = [entry for entry in told if node.casefold() in f"{entry.message} {entry.details}".casefold()]
    entry = next(iter([*ours, *told]), None)
    if entry is None:
        return None
    text = ": ".join(part for part in (entry.code, entry.message, entry.details) if part)
    row, words = row_of_text(text), {word.casefold() for word in re.findall(r"[A-Za-z0-9_-]+", text)}
    for other in sites:
        if other.casefold() in words and (found := _on(other, node, findings)):
            return found
    return Cause(node=node, row=row, because=f"the sync says {text}", certain=bool(ours))


def _down(node: str, sites: Mapping[str, SiteSeen]) -> Cause | None:
    seen = sites.get(node)
    if seen is None or (seen.service == "running" and seen.listening):
        return None
    what = "runs but does not listen" if seen.service == "running" else f"is {seen.service or 'not installed'}"
    return Cause(node=node, row=11 if seen.service != "running" else 12, because=f"its service {what}")


def _elsewhere(node: str, findings: Findings | None) -> Cause | None:
    """The server is correct, another one is not: the file may have been lost there."""
    found = explain(node, findings) if findings else None
    if found is None or found.answer is not Answer.ELSEWHERE or found.cause is None:
        return None
    rule = found.cause.invariant
    return Cause(
        node=node,
        row=row_of_rule(rule),
        because=f"{rule} does not hold on {', '.join(found.cause.nodes[:5]) or 'another server'}",
        remedy=found.cause.remedy,
        rule=rule,
        certain=False,
    )


def _unknown(node: str, folder: str) -> Cause:
    top = re.split(r"[\\/]", folder)[0].casefold()
    if top in _LIBRARY_FOLDERS:
        why = f"{top} is copied within a pool only if LibraryLoadBalanced is 1 and LoadBalServerCount is right"
        return Cause(node=node, row=_LIBRARY, because=why, remedy="set both, restart the services", certain=False)
    return Cause(
        node=node,
        row=_LAG,
        because="no rule is refuted and the sync reported no failure: the file may still be on its way, or the profile "
        "does not take files from this folder",
        remedy="look at the items of the profile, and prove again with a longer sync.arrives",
        certain=False,
    )
