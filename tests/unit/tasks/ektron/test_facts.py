"""Facts of a node and of a cluster: what they hold, what they compare, what they leave out."""

from datetime import timedelta

import pytest

from tasks.ektron.certificates.family import KINDS
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.values import FileFacts, Spread
from tasks.ektron.refusals import ConfigRefused
from tests.unit.tasks.ektron.joined import FOUR, HASHES, NOW, THUMBPRINT, changed, joined_cluster, joined_node


def test_facts_do_not_keep_which_fields_were_given() -> None:
    """The names would take two fifths of the memory of all facts. What is read, made and copied is the same."""
    read = FileFacts.model_validate_json('{"path": "x", "size": 1}')
    copied = read.model_copy(update={"size": 2})
    assert (FileFacts(path="x", size=1), FileFacts(path="x", size=2)) == (read, copied)
    assert '{"path":"x","size":1}' == read.model_dump_json(exclude_defaults=True)
    assert set() == read.model_fields_set == FileFacts(path="y").model_fields_set


def test_a_spread_holds_the_most_common_value_and_the_nodes_that_differ() -> None:
    """Names are compared without case; strangers and duplicates are listed, sorted."""
    spread = Spread.of({"s1": "x", "S2": "x", "P1": "y", "Z": "x", "A": "x"}, FOUR, duplicated=["S2", "S1"])
    assert spread == Spread(
        common="x", differing={"P1": "y"}, missing=("P2",), unexpected=("A", "Z"), duplicated=("S1", "S2")
    )
    assert [spread.value(node) for node in FOUR] == ["x", "x", "y", None]
    assert (("P2",), 1) == (spread.absent(FOUR), spread.count_absent(4))


def test_a_spread_without_values_lists_no_names() -> None:
    """Facts do not grow with the cluster; entries of other servers are listed, and an unreadable file is a value."""
    nothing = Spread.of({}, FOUR)
    assert Spread(none=True) == nothing
    assert (FOUR, 4) == (nothing.absent(FOUR), nothing.count_absent(4))
    assert Spread(none=True, unexpected=("Z",)) == Spread.of({"Z": "x"}, FOUR)
    assert () == Spread.of(dict.fromkeys(FOUR, ""), FOUR).absent(FOUR)
    assert () == Spread().absent(FOUR)
    assert Spread().value("S1") is None


@pytest.mark.parametrize(
    ("expected", "others"),
    [("x", ("P1",)), ("y", ("S1", "S2")), ("z", ("S1", "S2", "P1"))],
    ids=["the most common value", "the rare value", "no value"],
)
def test_the_nodes_with_another_value_are_listed(expected: str, others: tuple[str, ...]) -> None:
    """Nodes without a value are not among them."""
    spread = Spread.of({"S1": "x", "S2": "x", "P1": "y"}, FOUR)
    assert spread.others(expected, FOUR) == others
    assert Spread().others(expected, FOUR) == ()


def test_read_only_files_are_listed_with_the_copy_on_the_origin() -> None:
    """Each of the four configuration files, only when it has the attribute."""
    facts = joined_node("S1", origin=True)
    assert facts.readonly_configurations == ()
    assert facts.ews is not None
    for part in ("asset", "service_config", "web", "ews"):
        locked = changed(facts, **{f"{part}__file__readonly": True})
        assert locked.readonly_configurations == (getattr(facts, part).file.path,)
    assert joined_node("P1").readonly_configurations == ()


LATER = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    "volatile",
    [
        {"observed_at": LATER},
        {"clock": LATER},
        {"skew": 9.0},
        {"probes": {}},
        {"newest_input": LATER},
        {"newest_input_path": "x"},
        {"newest_change": LATER},
        {"newest_change_path": "x"},
        {"inputs": {"x": "y"}},
        {"asked": "modification times"},
        {"start_record": {"service": "s", "pid": 1, "started": None, "loaded": None}},
        {"generated": {}},
        {"system": None},
        {"readiness": None},
        {"asset__file__mtime": LATER},
        {"service_config__file__mtime": LATER},
        {"web__file__mtime": LATER},
        {"ews__file__mtime": LATER},
        {"service__pid": 9},
        {"service__started": LATER},
        {"service__state": "stopped"},
        {"service__left_stopped": ["x"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_plan_does_not_depend_on_volatile_facts(volatile: dict[str, object]) -> None:
    """Clock, network and state of the service change the facts, but not their fingerprint."""
    facts = joined_node("S1", origin=True)
    other = changed(facts, **volatile)
    assert other != facts
    assert other.fingerprint() == facts.fingerprint()


@pytest.mark.parametrize(
    "stable",
    [
        {"computer": "X"},
        {"asset__file__hash": "x"},
        {"service__start_type": "manual"},
        {"web__encoded_value": "x"},
        {"leftovers": ["x"]},
        {"precompiled": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_plan_depends_on_all_other_facts(stable: dict[str, object]) -> None:
    """A change of one of them changes the fingerprint, a SHA-256 in hex."""
    facts = joined_node("S1")
    assert changed(facts, **stable).fingerprint() != facts.fingerprint()
    assert len(facts.fingerprint()) == 64


def cluster(**values: object) -> ClusterFacts:
    """The joined cluster without a family of the run."""
    whole = joined_cluster()
    return ClusterFacts(**{"nodes": FOUR, "origin": "s1", "seen": whole.seen, **values})  # type: ignore[arg-type]  # a test passes each field by name


def test_the_family_of_the_run_is_the_measure_then_that_of_the_origin() -> None:
    """First the run, then the files that the configurator wrote, then those in the service folder; else nothing."""
    whole = joined_cluster()
    own = changed(whole.seen["S1"], origin_family={}, client=None)
    assert cluster(family={"k": "h"}, family_thumbprint="t").hashes == {"k": "h"}
    assert cluster(family={"k": "h"}, family_thumbprint="t").thumbprint == "t"
    written = changed(whole.seen["S1"], origin_family={"SyncClient.cer": "other"})
    assert cluster(seen={"S1": written}).hashes == {"SyncClient.cer": "other"}
    assert cluster(seen={"S1": written}).thumbprint == THUMBPRINT
    assert cluster(seen={"S1": own}).hashes == HASHES
    assert cluster(seen={"S1": own}).thumbprint == HASHES["SyncClient.cer"]
    families = {kind: Spread(common="h") for kind in KINDS[:2]} | {KINDS[2]: Spread()}
    one_missing = own.model_copy(update={"service_family": families})
    assert cluster(seen={"S1": one_missing}).hashes == dict.fromkeys(KINDS[:2], "h")
    assert cluster(seen={}).hashes == {}
    assert cluster(seen={}).thumbprint == ""


def test_nodes_are_found_in_any_case() -> None:
    """Facts, the origin and unseen nodes with their reasons; the order is that of the cluster file."""
    facts = {name.lower(): value for name, value in joined_cluster().seen.items() if name != "P2"}
    seen = cluster(seen=dict(reversed(facts.items())), reasons={"P2": "refused"})
    assert list(seen.facts) == ["S1", "S2", "P1"]
    assert seen.unseen == ("P2",)
    assert seen.why_unseen("P2") == "not seen: refused"
    assert seen.why_unseen("P1") == "not seen: the reason is unknown"
    assert seen.is_origin(seen.facts["S1"])
    assert not seen.is_origin(seen.facts["S2"])


def test_a_refusal_has_its_line_in_the_text() -> None:
    """The line is left out when it is unknown."""
    assert str(ConfigRefused("wrong", line=3)) == "line 3: wrong"
    assert str(ConfigRefused("wrong")) == "wrong"
    assert ConfigRefused("wrong").remedy == ""
