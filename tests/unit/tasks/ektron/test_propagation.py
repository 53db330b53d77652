"""Which servers a sync reaches: the procedure's table as case files, and what may not be asked."""

import json
from pathlib import Path

import pytest

from tasks.ektron.propagation import Direction, Sync, propagate
from tasks.ektron.refusals import Refused
from tests.places import CASE_FOLDERS

CASES = sorted((CASE_FOLDERS / "propagation").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """Each server's answer is the table's, `unknown` included, with a reason."""
    case = json.loads(path.read_text(encoding="ascii"))
    answer = propagate(
        staging=case["staging"],
        production=case["production"],
        changed=case["changed"],
        syncs=[Sync(start=start, direction=Direction(direction)) for start, direction in case["syncs"]],
        unavailable=case.get("unavailable", ()),
        path=case.get("path", ""),
    )
    assert {server.server: server.reach.value for server in answer.servers} == case["expected"]
    assert all(server.why for server in answer.servers)
    if "best" in case:
        assert [answer.best.start, answer.best.direction.value] == case["best"]


def test_the_table_is_complete() -> None:
    """All case files are found."""
    assert len(CASES) >= 20


@pytest.mark.parametrize(
    ("changed", "start", "words"),
    [("X", "S1", "no server 'X'"), ("S1", "X", "no server 'X'"), ("S1", "P1", "production server")],
)
def test_what_may_not_be_asked(changed: str, start: str, words: str) -> None:
    """Unknown servers and syncs from production are refused with what to do instead."""
    with pytest.raises(Refused, match=words) as caught:
        propagate(
            staging=["S1"], production=["P1"], changed=changed, syncs=[Sync(start=start, direction=Direction.UPLOAD)]
        )
    assert caught.value.remedy


def test_cautions_fit_the_cluster() -> None:
    """Clustered staging servers and changes on production are cautioned about."""
    plain = propagate(staging=["S1"], production=["P1"], changed="S1", syncs=[])
    both = propagate(staging=["S1", "S2"], production=["P1"], changed="P1", syncs=[])
    assert len(plain.cautions) == 1
    assert len(both.cautions) == 3
    assert {answer.server for answer in both.servers} == {"S1", "S2", "P1"}
