"""Findings about what a cluster leaves behind: removed servers, and folders that are not used any more."""

from dataclasses import replace

import pytest

from tasks.ektron.certificates.family import KINDS
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.old_places import OldPlace
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import Finding, InvariantState, Severity
from tasks.ektron.rules.invariants import ClusterFacts, judge
from tests.unit.tasks.ektron.joined import FOUR, HASHES, THUMBPRINT, broken, changed, joined_cluster

OTHER = "0e" * 32
WARNING = (InvariantState.REFUTED, Severity.WARNING)
ERROR = (InvariantState.REFUTED, Severity.ERROR)
PROVEN = (InvariantState.PROVEN, Severity.WARNING)


def trusting(facts: NodeFacts, keys: dict[str, str], *held: str) -> NodeFacts:
    """A node with keys of other servers, and with the files of some."""
    files = {kind: Spread.of(dict.fromkeys((*FOUR, *held), HASHES[kind]), FOUR) for kind in KINDS}
    spread = Spread.of(dict.fromkeys(FOUR, THUMBPRINT) | keys, FOUR)
    return changed(facts, service_config__keys=spread, service_config__other_keys=keys, service_family=files)


def found(cluster: ClusterFacts, rule: str = "leftovers.removed-node") -> Finding:
    """The finding of the rule."""
    return judge(cluster).of(rule)


@pytest.mark.parametrize(
    ("keys", "held", "partners", "expected"),
    [
        ({}, (), (), PROVEN),
        ({"P9": THUMBPRINT}, (), (), WARNING),
        ({}, ("P9",), (), WARNING),
        ({"P9": THUMBPRINT}, ("P9",), (), WARNING),
        ({"P9": OTHER}, (), (), ERROR),
        ({"P9": OTHER, "P8": THUMBPRINT}, ("P8",), (), ERROR),
        ({"p9": OTHER}, ("p9",), ("P9",), PROVEN),
        ({"P9": OTHER, "X1": THUMBPRINT}, (), ("P9",), WARNING),
        ({"P9": "empty"}, (), (), ERROR),
    ],
)
def test_a_server_that_is_neither_node_nor_partner(
    keys: dict[str, str], held: tuple[str, ...], partners: tuple[str, ...], expected: tuple[InvariantState, Severity]
) -> None:
    """A warning; an error where its key is not the family's, which no rollout replaces; a partner is none."""
    cluster = replace(broken("P1", lambda facts: trusting(facts, keys, *held)), partners=partners)
    finding = found(cluster)
    assert (finding.verdict, finding.severity) == expected
    assert finding.nodes == (("P1",) if expected != PROVEN else ())
    assert not {name for name in (*keys, *held) if name.upper() not in partners} - set(
        finding.evidence.replace(",", " ").split()
    )


def test_the_remedy_names_both_ways() -> None:
    """A living partner that is not declared looks the same: the text says so, before it says how to prune."""
    remedy = found(broken("P1", lambda facts: trusting(facts, {"X1": OTHER}))).remedy
    assert remedy.index("partners:") < remedy.index("--prune")
    assert "looks the same" in remedy


def test_without_a_known_family_no_key_is_an_error() -> None:
    """What the certificate of the family is may be unknown."""
    whole = broken("P1", lambda facts: trusting(facts, {"P9": OTHER}))
    origin = changed(whole.seen["S1"], client=None, service_family={}, origin_family={}, configurator_family={})
    cluster = replace(whole, seen={**whole.seen, "S1": origin}, family={}, family_thumbprint="")
    assert (found(cluster).verdict, found(cluster).severity) == WARNING


def test_the_copy_for_service_updates_counts_too() -> None:
    """A key that only the EWSUpdates copy has would come back with the next update of the service."""
    cluster = broken("S1", lambda facts: changed(facts, ews__other_keys={"P9": THUMBPRINT}))
    assert "would accept P9 after a service update" in found(cluster).evidence


def test_entries_of_a_renewal_are_named_as_such() -> None:
    """A renewal that did not end leaves entries that are of no server: the finding says how to go on."""
    cluster = broken("P1", lambda facts: trusting(facts, {"ESYNC-OLD": OTHER, "ESYNC-NEW": THUMBPRINT}, "ESYNC-OLD"))
    assert (found(cluster).verdict, found(cluster).severity) == ERROR
    assert "ESYNC-NEW, ESYNC-OLD: of a renewal that has not ended" in found(cluster).evidence
    assert "certs renew" not in found(broken("P1", lambda facts: trusting(facts, {"P9": OTHER}))).evidence


def test_a_full_name_of_a_node_is_named_as_such() -> None:
    """A key under the name by which a sync knows the node is no removed server: it can be kept as a partner's."""
    facts = broken("P1", lambda facts: trusting(facts, {"s1.corp.example": THUMBPRINT, "x1.corp.example": THUMBPRINT}))
    assert "; s1.corp.example: may be a full name of a node; if syncs use it, list it under" in found(facts).evidence
    kept = replace(facts, partners=("S1.corp.example", "x1.corp.example"))
    assert found(kept).verdict is InvariantState.PROVEN


def test_copied_files_are_named_as_such() -> None:
    """Explorer calls a copied certificate file `Copy of P1_SyncClient.pfx`: that is no server that could be retired."""
    facts = broken("P1", lambda facts: trusting(facts, {"P9": THUMBPRINT}, "Copy of P1"))
    assert "; Copy of P1: no server has such a name, so these are copied files" in found(facts).evidence


def test_an_unseen_node_leaves_it_open() -> None:
    """Nothing is proven about a node that was not seen."""
    whole = joined_cluster()
    seen = {name: facts for name, facts in whole.seen.items() if name != "P2"}
    assert found(replace(whole, seen=seen)).verdict is InvariantState.UNKNOWN


def test_old_folders_are_named() -> None:
    """With their path, how many files they hold, whose, and why they are not in use."""
    place = OldPlace(folder=r"D:\old", why="it moved", files=3, examples=("P1_SyncClient.pfx", "P1_SyncClient.pvk"))
    cluster = broken("P1", lambda facts: changed(facts, old_places=[place.model_dump()]))
    finding = found(cluster, "leftovers.old-places")
    assert (finding.verdict, finding.severity) == WARNING
    assert finding.reasons == {
        "P1": r"D:\old holds 3 certificate files, with private keys, of P1 (it moved)",
    }
