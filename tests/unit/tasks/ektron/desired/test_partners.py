"""Keys and files of servers outside the cluster: put where missing, renewed with those of the nodes, else kept."""

import base64
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ektron.certificates.family import CLIENT_CER, KINDS, thumbprint
from tasks.ektron.config.readers import read_service
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.places import places
from tasks.ektron.desired.settings import edited
from tasks.ektron.desired.target import Target
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tests.sampling import examples
from tests.unit.tasks.ektron.configured import differences_of
from tests.unit.tasks.ektron.joined import FOUR, HASHES, THUMBPRINT, changed, joined_node

NEW, OLD, OWN = (base64.b64encode(text).decode() for text in (b"new", b"old", b"own"))
NODES, PARTNERS = ("S1", "S2"), ("X1", "Y_2")
VALUES = st.dictionaries(st.sampled_from((*NODES, "x1", "Y_2", "Z")), st.sampled_from([NEW, OLD, OWN, ""]))
TARGET = Target(node="S1", nodes=NODES, is_origin=False, hashes={}, thumbprint=thumbprint(NEW) or "", partners=PARTNERS)


def config(values: Mapping[str, str]) -> bytes:
    """A service configuration with these keys."""
    keys = "".join(f'<add key="{name}_SyncClient.cer" encodedValue="{value}" />' for name, value in values.items())
    flag = '<appSettings><add key="LoadBalanced" value="1" /></appSettings>'
    model = f"<ektron.serviceModel><publickCertKeys>{keys}</publickCertKeys></ektron.serviceModel>"
    return f"<configuration>{flag}{model}</configuration>".encode()


@settings(max_examples=examples(whole=400, sample=40))
@given(VALUES)
def test_a_partner_gets_the_family_or_keeps_its_own(values: dict[str, str]) -> None:
    """Plan and edit agree for all contents; a partner loses no certificate of its own; others stay as they are."""
    data = Content(config(values))
    edit = edited(ConfigFile.SERVICE, data, TARGET, NEW)
    assert edit.changed == bool(differences_of(ConfigFile.SERVICE, data, TARGET))
    after_edit = Content(edit.data)
    assert [] == differences_of(ConfigFile.SERVICE, after_edit, TARGET)
    after = {name.upper(): value for name, value in read_service(after_edit).key_thumbprints.items()}
    before = {name.upper(): value for name, value in values.items()}
    ours = {"", *(before[node] for node in NODES if node in before)}
    for partner in PARTNERS:
        value = before.get(partner, "")
        assert after[partner] == thumbprint(NEW if value in ours else value)
    assert all(after[node] == thumbprint(NEW) for node in NODES)
    if before.get("Z"):
        assert after["Z"] == thumbprint(before["Z"])


def partner_files(facts: NodeFacts, partners: Mapping[str, str]) -> dict[str, str]:
    """The names of the partner files that are to be written: X1 and Y1 are partners with these client certificates."""
    target = Target(node="P1", nodes=FOUR, is_origin=False, hashes=HASHES, thumbprint=THUMBPRINT, partners=("X1", "Y1"))
    family = {kind: Spread.of(partners, ("X1", "Y1")) for kind in KINDS}
    seen = changed(facts, partner_family=family)
    found = [place for place in places(seen, target) if place.what == "certificate files of partners"]
    return {f"{node}_{CLIENT_CER}": str(place.missing(CLIENT_CER)) for place in found for node in place.nodes}


def test_files_of_a_partner_are_copies_of_the_family_or_its_own() -> None:
    """All six where the client certificate is missing or the nodes' old one; none where it is another."""
    facts = joined_node("P1")
    assert {"X1_SyncClient.cer": "2", "Y1_SyncClient.cer": "2"} == partner_files(facts, {})
    assert {"X1_SyncClient.cer": "1"} == partner_files(facts, {"Y1": "99" * 32})
    old = "0d" * 32
    before = changed(facts, service_family={kind: Spread.of(dict.fromkeys(FOUR, old), FOUR) for kind in KINDS})
    assert {"X1_SyncClient.cer": "0", "Y1_SyncClient.cer": "0"} == partner_files(before, {"X1": old, "Y1": old})
    assert {} == partner_files(facts, {"X1": "98" * 32, "Y1": "99" * 32})
