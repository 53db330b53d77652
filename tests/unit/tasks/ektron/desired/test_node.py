"""What a node still lacks: nothing when joined, exactly the right thing when one fact is wrong."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS
from tasks.ektron.desired.node import differences, restart_reason, service_reason
from tasks.ektron.desired.target import RECYCLED, Difference, Target
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tests.unit.tasks.ektron.joined import (
    CONFIGURATOR,
    FOUR,
    HASHES,
    SERVICE,
    SITE,
    STARTED,
    THUMBPRINT,
    changed,
    joined_node,
)


def needed(facts: NodeFacts) -> tuple[Difference, ...]:
    """What this node of the four-server cluster still lacks."""
    return differences(facts, target(facts.node))


def target(node: str, nodes: Sequence[str] = FOUR) -> Target:
    """What a node has to be; the first one is the origin."""
    return Target(node=node, nodes=nodes, is_origin=node == nodes[0], hashes=HASHES, thumbprint=THUMBPRINT)


def field(**fields: object) -> Callable[[NodeFacts], NodeFacts]:
    """A change of fields."""
    return lambda facts: changed(facts, **fields)


def some(value: str, *nodes: str) -> Spread:
    """A value for these nodes only."""
    return Spread.of(dict.fromkeys(nodes, value), FOUR)


CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"
STAGING = r"C:\Ektron Security Certificates"

# name: (node, what is off, [(what, file, before)], whether the service reads it when it starts)
CASES: dict[str, tuple[str, Callable[[NodeFacts], NodeFacts], list[tuple[str, str, str]], bool]] = {
    "asset flag": (
        "P1",
        field(asset__load_balanced="0"),
        [
            ("DocumentManagerData/@LoadBalanced", rf"{SITE}\AssetManagement.config", "0"),
            ("the site is recycled", rf"{SITE}\web.config", "older than AssetManagement.config"),
        ],
        True,
    ),
    "service flag": ("P1", field(service_config__load_balanced=None), [("appSettings/LoadBalanced", CONFIG, "")], True),
    "one key missing": (
        "P1",
        field(service_config__keys=some(THUMBPRINT, "S1", "S2", "P1")),
        [("publickCertKeys: entries", CONFIG, "1 missing (P2)")],
        True,
    ),
    "no keys at all": (
        "P1",
        field(service_config__keys=Spread(), service_config__keys_present=False),
        [("publickCertKeys: entries", CONFIG, "4 missing (S1, S2, P1, P2)")],
        True,
    ),
    "all keys of another family": (
        "P1",
        field(service_config__keys=some("00" * 32, *FOUR)),
        [("publickCertKeys: values", CONFIG, "4 with another certificate (S1, S2, P1, P2)")],
        True,
    ),
    "server certificate": (
        "P1",
        field(service_config__server_certificates=["S1_SyncServer.pfx", "p1_syncserver.PFX"]),
        [("services/@serverCertificate", CONFIG, "S1_SyncServer.pfx")],
        True,
    ),
    "endpoints": (
        "P1",
        field(web__endpoints=[{"contract": "a", "client_certificate": "EktronSyncClient.pfx"}]),
        [("endPoints/@clientCertificate (1 of 1)", rf"{SITE}\web.config", "EktronSyncClient.pfx")],
        False,
    ),
    "encoded value": (
        "P1",
        field(web__encoded_value=""),
        [("appSettings/encodedValue", rf"{SITE}\web.config", "")],
        False,
    ),
    "family in the service folder": (
        "P1",
        lambda f: changed(
            f, service_family={**f.service_family, "SyncClient.cer": some(HASHES["SyncClient.cer"], "S1")}
        ),
        [("certificate files of all nodes", SERVICE, "3 missing, 0 different")],
        True,
    ),
    "another family in the service folder": (
        "P1",
        field(service_family={kind: some("00" * 32, *FOUR) for kind in KINDS}),
        [("certificate files of all nodes", SERVICE, "0 missing, 24 different")],
        True,
    ),
    "empty service folder": (
        "P1",
        field(service_family={}),
        [("certificate files of all nodes", SERVICE, "24 missing, 0 different")],
        True,
    ),
    "site root": (
        "P1",
        field(web_root_family={"SyncClient.cer": "00" * 32}),
        [("client certificate files", SITE, "2 missing, 1 different")],
        False,
    ),
    "one other file in the site root, none missing": (
        "P1",
        field(web_root_family={**{kind: HASHES[kind] for kind in CLIENT_KINDS}, "SyncClient.cer": "00" * 32}),
        [("client certificate files", SITE, "0 missing, 1 different")],
        False,
    ),
    "one other file in the staging folder, none missing": (
        "P1",
        field(staging_family={**HASHES, "SyncServer.pvk": "00" * 32}),
        [("own certificate files", STAGING, "0 missing, 1 different")],
        False,
    ),
    "a file in the staging folder whose hash is not known": (
        "P1",
        field(staging_family={**HASHES, "SyncServer.pvk": ""}),
        [("own certificate files", STAGING, "1 missing, 0 different")],
        False,
    ),
    "staging folder": (
        "P1",
        field(staging_files=None, staging_family={}),
        [("own certificate files", STAGING, "6 missing, 0 different")],
        False,
    ),
    "stray": (
        "P1",
        field(staging_files=[*(f"P1_{kind}" for kind in KINDS), "S1_SyncClient.pfx"]),
        [("security files of others", STAGING, "S1_SyncClient.pfx")],
        False,
    ),
    "configurator folder": (
        "S1",
        field(configurator_family={kind: some(HASHES[kind], "S1") for kind in KINDS}),
        [("renamed copies", CONFIGURATOR, "18 missing, 0 different")],
        False,
    ),
}


@pytest.mark.parametrize("node", FOUR)
def test_a_joined_node_needs_nothing(node: str) -> None:
    """No difference, and no restart."""
    facts = joined_node(node, origin=node == "S1")
    assert needed(facts) == ()
    assert service_reason(facts, ()) == ""


@pytest.mark.parametrize("name", CASES)
def test_each_difference_is_found_alone(name: str) -> None:
    """One fact off gives one difference, in its file, with what was there; a restart where the service reads it."""
    node, change, expected, restarts = CASES[name]
    facts = change(joined_node(node, origin=node == "S1"))
    found = needed(facts)
    assert [(d.what, d.file, d.before) for d in found] == expected
    assert bool(restart_reason(facts, found)) is restarts


def test_the_ews_copy_is_wanted_on_the_origin_only_where_there_is_one() -> None:
    """Keys missing in the EWSUpdates copy are a difference; a missing copy is none."""
    origin = joined_node("S1", origin=True)
    incomplete = changed(origin, ews__keys=some(THUMBPRINT, "S1"))
    assert [(d.what, d.read_at_start) for d in needed(incomplete)] == [("publickCertKeys: entries", False)]
    assert needed(changed(origin, ews=None)) == ()
    assert needed(changed(origin, ews__file__exists=False, ews__keys=Spread())) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (field(service__state="stopped"), "the service was not running (stopped)"),
        (field(service__state=""), "the service was not running (not installed)"),
        (field(service__started=None), "restarted once, because it is not known what the service has loaded: the"),
        (
            field(newest_input=STARTED + timedelta(seconds=1), newest_change=STARTED + timedelta(seconds=1)),
            rf"restart owed: {SITE}\AssetManagement.config changed at 2026-11-23 11:00:01.000000 UTC",
        ),
    ],
)
def test_a_restart_is_owed_by_evidence(change: Callable[[NodeFacts], NodeFacts], words: str) -> None:
    """A service that does not run, or started before the last change, is started again without any difference."""
    facts = change(joined_node("P1"))
    assert needed(facts) == ()
    assert restart_reason(facts, ()).startswith(words)


@pytest.mark.parametrize(("inputs", "more"), [(1, ""), (2, " and 1 more"), (3, " and 2 more")])
def test_the_first_of_the_inputs_is_the_reason_for_the_restart(inputs: int, more: str) -> None:
    """The others are counted; what the service does not read when it starts is none of them."""
    needed = [Difference(what="w", file=rf"{SITE}\web.config")]
    needed += [Difference(what=f"v{n}", file=CONFIG, read_at_start=True) for n in range(inputs)]
    reason = "the service reads what changes when it starts: v0 in Ektron.ASM.EktronServices30.exe.config"
    assert f"{reason}{more}" == restart_reason(joined_node("P1"), needed)


def test_differences_do_not_grow_with_the_cluster() -> None:
    """In a cluster of 500 everything wrong makes a dozen differences, each short."""
    names = tuple(f"WEB{i}" for i in range(500))
    facts = changed(
        joined_node("WEB0", names, origin=True),
        service_config__keys=Spread(missing=names),
        service_family={},
        configurator_family={},
        web_root_family={},
        asset__load_balanced="0",
    )
    found = differences(facts, target("WEB0", names))
    assert len(found) == 6
    assert max(len(d.before) for d in found) < 100


@pytest.mark.parametrize(("asset", "web", "owed"), [(1, 2, False), (2, 2, False), (3, 2, True)])
def test_a_recycle_is_owed_by_evidence(asset: int, web: int, *, owed: bool) -> None:
    """The site has not read an asset configuration that is younger than web.config, whichever run was interrupted."""
    asset_changed, web_changed = (STARTED - timedelta(minutes=5 - minutes) for minutes in (asset, web))
    node = changed(joined_node("P1"), asset__file__mtime=asset_changed, web__file__mtime=web_changed)
    found = needed(node)
    assert ([RECYCLED] if owed else []) == [difference.what for difference in found]
