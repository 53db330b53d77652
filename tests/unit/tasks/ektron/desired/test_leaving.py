"""What `--prune` removes from a node that stays, and what a node loses that leaves the cluster."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS, thumbprint
from tasks.ektron.config.readers import read_service
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.leftovers import leftover_entries
from tasks.ektron.desired.node import differences
from tasks.ektron.desired.places import Removal, removals
from tasks.ektron.desired.settings import edited, setting_differences
from tasks.ektron.desired.target import Target
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.old_places import OldPlace
from tasks.ektron.facts.values import Spread
from tests.unit.tasks.ektron.configured import configuration_of, differences_of
from tests.unit.tasks.ektron.joined import (
    CONFIGURATOR,
    FOUR,
    HASHES,
    SERVICE,
    SITE,
    THUMBPRINT,
    changed,
    joined_node,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,6}", fullmatch=True)
OLD = OldPlace(folder=r"C:\old", why="moved", files=3)


def target(node: str = "P1", *, prune: bool = False, retired: bool = False, partners: Sequence[str] = ()) -> Target:
    """What a node of the four has to be; one that leaves has no family."""
    return Target(
        node=node,
        nodes=FOUR,
        is_origin=node == "S1",
        hashes={} if retired else HASHES,
        thumbprint="" if retired else THUMBPRINT,
        partners=partners,
        prune=prune,
        retired=retired,
    )


def with_strangers(facts: NodeFacts, *names: str) -> NodeFacts:
    """A node that trusts other servers, too, and holds their files."""
    keys = Spread.of(dict.fromkeys((*FOUR, *names), THUMBPRINT), FOUR)
    files = {kind: Spread.of(dict.fromkeys((*FOUR, *names), HASHES[kind]), FOUR) for kind in KINDS}
    return changed(
        facts,
        service_config__keys=keys,
        service_config__other_keys=dict.fromkeys(names, THUMBPRINT),
        service_family=files,
        configurator_family=files if facts.configurator_family else {},
        old_places=[OLD.model_dump()],
    )


@given(st.lists(NAMES, max_size=8), st.lists(NAMES, max_size=3), st.booleans(), st.booleans())
def test_who_is_unwanted(names: list[str], partners: list[str], prune: bool, leaves: bool) -> None:  # noqa: FBT001
    """Without an option none; with `--prune` who is neither node nor partner; on a leaving node exactly those."""
    wanted = target(partners=partners, prune=prune, retired=leaves)
    ours = {name.upper() for name in (*FOUR, *partners)}
    expected = [n for n in names if n.upper() in ours] if leaves else [n for n in names if n.upper() not in ours]
    assert list(wanted.unwanted(names)) == (expected if prune or leaves else [])


def test_without_the_option_nothing_is_touched_and_all_is_counted() -> None:
    """A node with leftovers needs nothing; they are counted for the plan. With the option they are changes instead."""
    facts = with_strangers(joined_node("P1"), "P9", "X1")
    assert differences(facts, target()) == ()
    assert leftover_entries(facts, target()) == 2 + 2 * 6 + 3
    assert leftover_entries(facts, target(partners=("x1",))) == 1 + 6 + 3
    assert leftover_entries(facts, target(prune=True)) == 0
    assert leftover_entries(joined_node("P1"), target()) == 0


def test_pruning_removes_keys_and_files_of_others() -> None:
    """In the service's configuration, its folder and old folders; on the origin also in the configurator's folder."""
    facts = with_strangers(joined_node("P1"), "P9")
    found = {(one.file, one.after, one.read_at_start) for one in differences(facts, target(prune=True))}
    config = facts.service_config.file.path
    assert found == {(config, "removed", True), (SERVICE, "removed", True), (r"C:\old", "removed", False)}
    origin = with_strangers(joined_node("S1", origin=True), "P9")
    folders = {one.folder: set(one.names) for one in removals(origin, target("S1", prune=True))}
    assert folders == {folder: {f"P9_{kind}" for kind in KINDS} for folder in (SERVICE, CONFIGURATOR)}
    assert removals(facts, target(prune=True, partners=("p9",))) == ()


def test_many_files_are_described_by_their_servers() -> None:
    """A few are named; of more only the number and whose they are; names without a server are never hidden."""
    few, many = (
        Removal("w", "C:\\x", ["P9_SyncClient.cer"]),
        [f"{name}_{kind}" for name in ("P9", "X1") for kind in KINDS],
    )
    assert few.summary == "P9_SyncClient.cer"
    assert Removal("w", "C:\\x", many).summary == "12 files of P9, X1"
    assert Removal("w", "C:\\x", [*many, "other.pfx"]).summary.endswith("and 8 more")


def test_a_leaving_node_loses_everything_of_the_cluster_and_nothing_else() -> None:
    """Its flags, names of certificates, keys and files; what it shares with servers outside the cluster stays."""
    facts = with_strangers(joined_node("P1"), "X1")
    wanted = target(retired=True)
    files = {one.folder: set(one.names) for one in removals(facts, wanted)}
    assert files == {
        SERVICE: {f"{node}_{kind}" for node in FOUR for kind in KINDS},
        SITE: {f"P1_{kind}" for kind in CLIENT_KINDS},
        r"C:\Ektron Security Certificates": {f"P1_{kind}" for kind in KINDS},
    }
    found = {one.what: one.after for one in setting_differences(facts, wanted)}
    assert found == {
        "DocumentManagerData/@LoadBalanced": "0",
        "appSettings/LoadBalanced": "0",
        "publickCertKeys: entries of other servers": "removed",
        "services/@serverCertificate": "EktronSyncServer.pfx",
        "appSettings/encodedValue": "empty",
        "endPoints/@clientCertificate (3 of 3)": "EktronSyncClient.pfx",
    }
    copied = changed(facts, renamed_copies=["X1_SyncClient.pfx", "ESYNC-OLD_SyncClient.cer"])
    assert {"X1_SyncClient.pfx", "ESYNC-OLD_SyncClient.cer"} <= set(removals(copied, wanted)[1].names)
    with_partner = target(retired=True, partners=("X1",))
    assert {f"X1_{kind}" for kind in KINDS} <= set(removals(facts, with_partner)[1].names)


HEAD = "<configuration><appSettings><add key='LoadBalanced' value='1'/></appSettings><ektron.serviceModel>"
TAIL = (
    "<services><add name='s' serverCertificate='P1_SyncServer.pfx'/></services></ektron.serviceModel></configuration>"
)


def config_with(**keys: str) -> Content:
    """A service configuration with these keys and values."""
    entries = "".join(f"\n  <add key='{key}' encodedValue='{value}'/>" for key, value in keys.items())
    return Content(f"{HEAD}<publickCertKeys>{entries}\n</publickCertKeys>{TAIL}".encode())


@given(
    st.lists(st.one_of(st.sampled_from(FOUR), NAMES), max_size=8, unique_by=str.casefold), st.booleans(), st.booleans()
)
def test_the_edit_removes_what_the_plan_names(names: list[str], leaves: bool, shares: bool) -> None:  # noqa: FBT001
    """For any keys: changed exactly if the plan names a change, nothing is left for a second edit, other keys stay.

    A node that leaves loses also the keys of other servers whose certificate is the cluster's (`shares`).
    """
    ours = {name.upper() for name in FOUR}
    keys = {f"{name}_SyncClient.cer": "TkVX" if name.upper() in ours or shares else "T1RI" for name in names}
    data = config_with(**{"Plain.cer": "TkVX", "EktronSyncClient.cer": "TkVX", **keys})
    wanted = replace(target(prune=not leaves, retired=leaves), thumbprint="" if leaves else thumbprint("TkVX"))
    value = "" if leaves else "TkVX"
    edit = edited(ConfigFile.SERVICE, data, wanted, value)
    assert edit.changed is bool(differences_of(ConfigFile.SERVICE, data, wanted))
    again = edited(ConfigFile.SERVICE, Content(edit.data), wanted, value)
    assert (again.data, again.changed) == (edit.data, False)
    left = set(read_service(Content(edit.data)).key_thumbprints)
    stays = leaves and not (shares and ours & {name.upper() for name in names})
    assert {name for name in left if name.upper() not in ours} == (
        {name for name in names if name.upper() not in ours} if stays else set()
    )
    assert {name.upper() for name in left} >= (set() if leaves else ours)
    assert b"Plain.cer" in edit.data
    assert b"EktronSyncClient.cer" in edit.data


def test_a_duplicate_of_an_unwanted_key_goes_with_it() -> None:
    """Two equal entries for one server are both removed, and the facts name it once."""
    names = ("X1_SyncClient.cer", "x1_syncclient.cer", *(f"{name}_SyncClient.cer" for name in FOUR))
    data = config_with(**dict.fromkeys(names, "TkVX"))
    facts = configuration_of({ConfigFile.SERVICE: data}, FOUR)
    assert set(facts.service_config.other_keys) == set(facts.service_config.keys.unexpected)
    edit = edited(ConfigFile.SERVICE, data, target(prune=True), "TkVX")
    assert b"x1" not in edit.data.lower()
