"""Pins in a cluster file: the values are there, comments and everything else stay."""

import difflib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.cluster_file.pins import pem_text, pinned_in_pem, with_fingerprints
from pipelines.cluster_file.positions import parse
from tests.places import ROOT
from workers.errors import InputRefused

PIN = ":".join(f"{number:02X}" for number in range(32))
ALIASED = """\
# head
connection: &all {user: svc, secret: env:PW}   # shared
nodes:   # the servers

  - {name: S1, host: s1, role: staging, pool: web}   # first
  # between
  - name: P1
    host: p1   # address
    # before the role
    role: production
    pool: live
    connection: *all
  - name: 1E5
    host: p2
    role: production
    pool: live
    connection:
      <<: *all
      port: 5987
# end
"""


def pins_in(text: str) -> list[object]:
    """The fingerprint of each node, by our own reader."""
    data = parse(text).data
    assert isinstance(data, dict)
    nodes = data["nodes"]
    assert isinstance(nodes, list)
    found: list[object] = []
    for node in nodes:
        own = node.get("connection") if isinstance(node, dict) else None
        found.append(own.get("fingerprint") if isinstance(own, dict) else None)
    return found


def lines_lost(before: str, after: str) -> list[str]:
    """Lines of a text that are not in the other one."""
    return [line[2:] for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("- ")]


def test_the_shipped_file_only_gets_lines() -> None:
    """Every line of lab/cluster.yaml stays; each pinned node has one line more, its connection another."""
    before = (ROOT / "lab" / "cluster.yaml").read_text()
    after = with_fingerprints(before, {0: PIN, 3: PIN})
    assert [PIN, None, None, PIN] == pins_in(after)
    assert [] == lines_lost(before, after)
    assert len(before.splitlines()) + 4 == len(after.splitlines())


def test_a_shared_connection_stays_shared() -> None:
    """A node with an alias gets a connection of its own with the same values; the shared one has no pin."""
    after = with_fingerprints(ALIASED, {0: PIN, 1: PIN, 2: PIN})
    data = parse(after).data
    assert [PIN, PIN, PIN] == pins_in(after)
    assert isinstance(data, dict)
    assert {"user": "svc", "secret": "env:PW"} == data["connection"]
    assert re.findall(r"#.*", ALIASED) == re.findall(r"#.*", after)


def test_a_pin_is_replaced() -> None:
    """A second pin of a node takes the place of the first; nothing else changes."""
    once = with_fingerprints(ALIASED, {1: PIN})
    other = PIN.replace("00", "FF")
    twice = with_fingerprints(once, {1: other})
    assert once.replace(PIN, other) == twice


@pytest.mark.parametrize("change", [lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text])
def test_line_endings_and_the_mark_of_the_encoding_stay(change: object) -> None:
    """Files of Windows editors: CR LF at every line, a mark at the beginning."""
    assert callable(change)
    after = with_fingerprints(change(ALIASED), {1: PIN})
    assert change(with_fingerprints(ALIASED, {1: PIN})) == after


def test_a_file_that_cannot_be_edited_safely_is_refused() -> None:
    """The message has what to write by hand."""
    shared_nodes = "x: &n\n  - {name: S1, host: h}\nnodes: *n\n"
    with pytest.raises(InputRefused) as caught:
        with_fingerprints(shared_nodes, {0: PIN})
    assert f'nodes[0].connection.fingerprint: "{PIN}"' in caught.value.remedy


comments = st.sampled_from(["", "  # a comment", "   # another: one"])
styles = st.sampled_from(
    [
        "  - {{name: N{0}, host: h{0}, role: staging, pool: web}}{1}\n",
        "  - name: 'N{0}'{1}\n    host: h{0}{1}\n    role: staging\n    pool: web{1}\n",
        '  - name: N{0}\n    host: "h{0}"\n    # note\n    role: staging\n    pool: web\n    connection: *all{1}\n',
        "  - name: N{0}\n    host: h{0}\n    role: staging\n    pool: web\n    connection: {{port: 5999}}{1}\n\n",
        "  - name: N{0}\n    host: h{0}\n    role: staging\n    pool: web\n    connection:{1}\n      user: 'a: b'\n",
    ]
)


@given(st.lists(st.tuples(styles, comments), min_size=1, max_size=5), st.integers(0, 31))
@example([("  - {{name: N{0}, host: h{0}, role: staging, pool: web}}{1}\n", "  # a comment")], 1)
def test_any_mixture_of_styles_is_pinned(written: list[tuple[str, str]], chosen: int) -> None:
    """Exactly the chosen nodes have the pin, every comment stays, and the other values are compared by the function."""
    nodes = "".join(style.format(place, comment) for place, (style, comment) in enumerate(written))
    text = f"connection: &all\n  user: svc\nnodes:\n{nodes}# end\n"
    pins = {place: PIN for place in range(len(written)) if chosen & 1 << place}
    after = with_fingerprints(text, pins)
    assert [PIN if place in pins else None for place in range(len(written))] == pins_in(after)
    assert re.findall(r"#.*", text) == re.findall(r"#.*", after)


def test_a_pem_file_is_read_again() -> None:
    """What was written is found by the name of its node; other text in the file is not."""
    block = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----"
    text = pem_text({"S1": ("s1:5986 SHA-256 AA", block), "P1": ("", block + "\n")})
    assert {"S1": block, "P1": block} == pinned_in_pem("# mine\n" + text + "# S2 without one\n")
