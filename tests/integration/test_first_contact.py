"""`esync init --from`: what one server tells, against the lab."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from pipelines.cli.entry import run
from pipelines.cluster_file.loader import ClusterRefused, load_cluster
from tests.integration.harness import SITE, Harness, cluster_of, four_servers, on_disk

pytestmark = pytest.mark.integration
#: Of two servers, of one that can only be a partner, of a copied file, and of a renewal that has not ended.
KEYS = ("P1", "OLD1", "web7.corp.example", "Copy of P1", "ESYNC-NEW")
CONFIG = r"C:\Program Files\Ektron\EktronWindowsService30\Ektron.ASM.EktronServices30.exe.config"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Four servers; S2 has other keys."""
    with four_servers(tmp_path_factory.mktemp("contact") / "lab") as running:
        config = on_disk(running, "S2", CONFIG)
        keys = "".join(f'<add key="{name}_SyncClient.cer" encodedValue="AAAA" />' for name in KEYS)
        text = config.read_text()
        assert "</publickCertKeys>" in text
        config.write_text(text.replace("</publickCertKeys>", f"{keys}</publickCertKeys>"))
        yield running


def init(lab: LabProcess, node: str, file: Path, *options: str) -> int:
    """`esync init --from` a server of the lab; its file is in the lab's folder, where password and CA file are."""
    host = load_cluster(lab.cluster).node(node).host
    given = ["--user", "esync", "--secret", "file:password", "--ca-file", "ca.pem"]
    return run(["init", str(file), "--from", host, *given, *options])


def test_the_origin_tells_almost_everything(lab: LabProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Edition, site, folders and that it is the origin are known; role and pool of the server stay open."""
    file = lab.cluster.parent / "from-s1.yaml"
    assert 0 == init(lab, "S1", file)
    said = capsys.readouterr().err
    assert "2 lines to complete" in said
    with pytest.raises(ClusterRefused) as caught:
        load_cluster(file)
    assert ["nodes[0].role", "nodes[0].pool"] == [mistake.path for mistake in caught.value.mistakes]
    file.write_text(file.read_text().replace("role: FILL-IN", "role: staging").replace("pool: FILL-IN", "pool: web"))
    cluster = load_cluster(file)
    assert ("8.0", "S1", SITE, "S1") == (cluster.edition, cluster.origin, cluster.site.path, cluster.nodes[0].name)


def test_other_servers_are_known_by_their_keys(lab: LabProcess) -> None:
    """Each is a node whose address is open; the comment says that it may be a partner."""
    file = lab.cluster.parent / "from-s2.yaml"
    assert 0 == init(lab, "S2", file)
    text = file.read_text()
    assert "# S2 has the key of P1: a server of this cluster, or else one for `partners`" in text
    with pytest.raises(ClusterRefused) as caught:
        load_cluster(file)
    paths = [mistake.path for mistake in caught.value.mistakes]
    assert {"origin", "nodes[1].host", "nodes[2].host"} <= set(paths)
    assert ["name: S2", "name: OLD1", "name: P1"] == [
        line.strip().removeprefix("- ") for line in text.splitlines() if line.strip().startswith("- name")
    ]


def test_a_name_that_no_node_can_have_is_only_mentioned(lab: LabProcess) -> None:
    """The file never has lines that `esync check` could not accept once they are filled in."""
    file = lab.cluster.parent / "unusual.yaml"
    assert 0 == init(lab, "S2", file)
    text = file.read_text()
    assert "# S2 has keys of web7.corp.example: add under `partners`" in text
    assert "# S2 has keys that no server can have: Copy of P1." in text
    assert "ESYNC-NEW" not in text


def test_a_joined_server_is_not_taken_for_the_origin(harness: Harness, tmp_path: Path) -> None:
    """Each holds the whole family; the origin is the one that has it from the Security Configurator."""
    with four_servers(tmp_path / "lab") as lab:
        lab.run_configurator("S1")
        assert "joined" == harness.rollout(cluster_of(lab)).record.verdict
        files = {node: lab.cluster.parent / f"joined-{node}.yaml" for node in ("S1", "P1")}
        assert [0, 0] == [init(lab, node, file) for node, file in files.items()]
        texts = {node: file.read_text() for node, file in files.items()}
    assert "\norigin: S1\n" in texts["S1"]
    assert "\norigin: FILL-IN" in texts["P1"]
    assert "P1 holds the family in use, as any joined server, but did not make it" in texts["P1"]


def test_a_refused_logon_writes_nothing(lab: LabProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong password is refused once, and no file is left."""
    file = lab.cluster.parent / "refused.yaml"
    os.environ["FIRST_CONTACT_WRONG"] = "wrong"
    try:
        assert 0 != init(lab, "P1", file, "--secret", "env:FIRST_CONTACT_WRONG")
    finally:
        del os.environ["FIRST_CONTACT_WRONG"]
    assert "refused" in capsys.readouterr().err
    assert not file.exists()
