"""Which certificate files belong where, and how many of them are to be copied."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS
from tasks.ektron.desired.places import Place, copies, places, refused_files
from tasks.ektron.desired.target import Target
from tasks.ektron.facts.access import PlaceFacts
from tasks.ektron.facts.values import Spread
from tests.unit.tasks.ektron.joined import CONFIGURATOR, FOUR, HASHES, SERVICE, SITE, THUMBPRINT, changed, joined_node

NODES = ("S1", "S2", "P1", "P2", "P3")


def place_of(seen: dict[str, Spread]) -> Place:
    """A folder for the files of all nodes."""
    return Place(what="files", folder="C:\\x", nodes=NODES, kinds=("a.cer",), seen=seen)


@given(st.dictionaries(st.sampled_from(NODES), st.sampled_from(["a", "b", "c"])), st.sampled_from(["a", "b", "c"]))
def test_the_count_is_that_of_the_single_names(there: dict[str, str], desired: str) -> None:
    """The counts of missing and differing files are those of the names, for any content of a folder."""
    place = place_of({"a.cer": Spread.of(there, NODES)})
    assert sum(1 for node in NODES if node not in there) == place.missing("a.cer")
    assert sum(1 for node in NODES if there.get(node, desired) != desired) == place.differing("a.cer", desired)


def test_a_folder_without_facts_lacks_all_files() -> None:
    """Without any fact about a kind, all of its files are to be copied."""
    assert (len(NODES), 0) == (place_of({}).missing("a.cer"), place_of({}).differing("a.cer", "a"))


def target_of(node: str) -> Target:
    """What a node of the four has to be; S1 is the origin."""
    return Target(node=node, nodes=FOUR, is_origin=node == "S1", hashes=HASHES, thumbprint=THUMBPRINT)


def files_by_folder(found: Iterable[Place]) -> dict[str, dict[str, str]]:
    """Folder -> its files, each with its kind."""
    return {one.folder: {f"{node}_{kind}": kind for node in one.nodes for kind in one.kinds} for one in found}


def test_each_folder_has_its_files() -> None:
    """All nodes' files in the service's folder, the own client files in the site's root; a third folder by node."""
    origin = files_by_folder(places(joined_node("S1", origin=True), target_of("S1")))
    other = files_by_folder(places(joined_node("P1"), target_of("P1")))
    everything = {f"{node}_{kind}": kind for node in FOUR for kind in KINDS}
    assert origin == {
        SERVICE: everything,
        SITE: {f"S1_{kind}": kind for kind in CLIENT_KINDS},
        CONFIGURATOR: everything,
    }
    assert other == {
        SERVICE: everything,
        SITE: {f"P1_{kind}": kind for kind in CLIENT_KINDS},
        "C:\\Ektron Security Certificates": {f"P1_{kind}": kind for kind in KINDS},
    }


def test_files_to_copy_are_counted_by_kind_over_all_folders() -> None:
    """Missing and differing files alike; a joined node needs none."""
    joined = joined_node("P1")
    assert copies(joined, target_of("P1")).total() == 0
    other = joined.service_family["SyncClient.cer"].model_copy(update={"differing": {"S2": "00" * 32}})
    lacking = changed(
        joined,
        service_family={**joined.service_family, "SyncClient.cer": other, "SyncServer.pvk": Spread(missing=FOUR)},
        web_root_family={},
        staging_family={**HASHES, "SyncServer.pvk": "00" * 32},
    )
    assert +copies(lacking, target_of("P1")) == {
        "SyncClient.pfx": 1,
        "SyncClient.pvk": 1,
        "SyncClient.cer": 2,
        "SyncServer.pvk": 5,
    }


@given(
    st.dictionaries(st.sampled_from(FOUR), st.sampled_from([HASHES["SyncClient.cer"], "00" * 32])),
    st.sets(st.sampled_from([*(f"{name}_SyncClient.cer" for name in FOUR), "X1_SyncClient.cer", "P1_SyncClient.pfx"])),
)
def test_only_a_file_that_exists_and_is_wrong_is_refused(there: dict[str, str], refused: set[str]) -> None:
    """A right file is not written, a missing one is made, and those of others are none of ours; case does not count."""
    place = PlaceFacts(path=SERVICE.upper(), writable=True, refused=tuple(name.swapcase() for name in sorted(refused)))
    held = {**joined_node("P1").service_family, "SyncClient.cer": Spread.of(there, FOUR)}
    facts = changed(joined_node("P1"), service_family=held, places=(place,))
    wrong = {f"{name}_SyncClient.cer" for name, value in there.items() if value == "00" * 32}
    assert {rf"{SERVICE}\{name}" for name in wrong & refused} == set(refused_files(facts, target_of("P1")))


def test_a_refused_file_that_has_to_go_is_found_too() -> None:
    """Files of other servers in the staging folder."""
    staging = "C:\\Ektron Security Certificates"
    place = PlaceFacts(path=staging, writable=True, refused=("S2_SyncClient.cer", "notes_Sync.txt"))
    own = [f"P1_{kind}" for kind in KINDS]
    facts = changed(joined_node("P1"), staging_files=(*own, "S2_SyncClient.cer"), places=(place,))
    assert [rf"{staging}\S2_SyncClient.cer"] == list(refused_files(facts, target_of("P1")))
