"""The configuration of a lab."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lab.config import LabConfig, generated, load, shipped, shipped_cluster
from lab.control.running import Lab
from lab.machine.errors import ConfigRefused
from tasks.cluster import Cluster

LAB = """
origin: S1
edition: "8.5"
disk: memory
nodes:
  - name: S1
    address: 127.0.77.11
  - name: S2
    address: 127.0.77.12
    password: another
    faults:
      clock_skew: 400
      service: {never_stops: true}
"""


def written(folder: Path, text: str) -> Path:
    """A lab file."""
    file = folder / "lab.yaml"
    file.write_text(text)
    return file


def test_the_shipped_lab_has_two_pools_of_two() -> None:
    """S1, S2, P1, P2, as in the shipped cluster file."""
    found = [(node.name, node.address, node.role, node.pool) for node in shipped().nodes]
    assert [
        ("S1", "127.0.77.11", "staging", "staging"),
        ("S2", "127.0.77.12", "staging", "staging"),
        ("P1", "127.0.77.21", "production", "production"),
        ("P2", "127.0.77.22", "production", "production"),
    ] == found


def test_the_shipped_cluster_file_is_valid_for_the_product() -> None:
    """The schema knows every field."""
    cluster = Cluster.model_validate(YAML(typ="safe").load(shipped_cluster()))
    assert ("four-servers", "S1", 4) == (cluster.name, cluster.origin, len(cluster.nodes))


def test_a_lab_file_is_read_strictly(tmp_path: Path) -> None:
    """The configuration has exactly its values."""
    config = load(written(tmp_path, LAB))
    assert ("8.5", "memory", 400.0, True) == (
        config.edition,
        config.disk,
        config.nodes[1].faults.clock_skew,
        config.nodes[1].faults.service.never_stops,
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("clock_skew", "clock_screw", "clock_screw"),
        ("127.0.77.12", "127.0.77.11", "several nodes have the same address"),
        ("127.0.77.12", "10.0.0.1", "loopback"),
        ("name: S2", "name: s1", "several nodes have the same name"),
        ("origin: S1", "origin: X", "not one of the nodes"),
        ('"8.5"', '"7.6"', "7.6"),
        ("nodes:", "nodes: [", "cannot be read"),
        ("origin: S1", "origin: S1\norigin: S2", "origin"),
    ],
)
def test_an_invalid_lab_file_is_refused_with_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """The message names the file and the error."""
    with pytest.raises(ConfigRefused) as caught:
        load(written(tmp_path, LAB.replace(old, new, 1)))
    assert "lab.yaml" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("count", [1, 2, 4, 600])
def test_a_generated_lab_has_the_requested_number_of_nodes(count: int) -> None:
    """Different loopback addresses, none that ends in 0 or 255, both roles from two on."""
    config = generated(count, "127.0.90.0/24")
    ends = {node.address.rpartition(".")[2] for node in config.nodes}
    assert count == len({node.address for node in config.nodes}) == len({node.name for node in config.nodes})
    assert not {"0", "255"} & ends
    assert min(count, 2) == len({node.role for node in config.nodes})


def test_an_invalid_range_is_refused() -> None:
    """The message has an example."""
    with pytest.raises(ConfigRefused, match=r"127\.0\.77\.0/24"):
        generated(2, "nowhere")


def test_a_lab_needs_nodes() -> None:
    """At least one."""
    with pytest.raises(ValueError, match="nodes"):
        LabConfig.model_validate({"origin": "S1", "nodes": []})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_generated_cluster_file_is_valid_and_loses_a_server_with_its_lines(tmp_path: Path, scheme: str) -> None:
    """The README removes the lines of P2 from its name to its pool, and the rest stays a cluster."""
    lab = Lab(generated(4).model_copy(update={"site_scheme": scheme}), tmp_path)
    lab._relate()
    yaml = YAML(typ="safe")
    text = lab._cluster()
    whole = Cluster.model_validate(yaml.load(text))
    less = Cluster.model_validate(
        yaml.load(re.sub(r"[^\n]*name: P2\n.*?pool: production\n", "", text, flags=re.DOTALL))
    )
    assert ("upload production", ("S1", "S2", "P1")) == (whole.sync.profile, less.node_names)
    assert whole.site_login
    assert (scheme == "http") == whole.site_login.over_http
