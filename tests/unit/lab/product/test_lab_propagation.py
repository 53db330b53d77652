"""The lab's disks judge the cases of `esync propagate`: two implementations of the same facts agree."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT
from tests.unit.lab.product.sites import Servers

CASES = sorted((ROOT / "tests" / "cases" / "propagation").glob("*.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_disks_agree_with_the_case(case: Path) -> None:
    """A new file on the changed server, the syncs of the case, and each server that must or must not have it."""
    told = json.loads(case.read_text("utf-8"))
    site = servers(told)
    changed, path = told["changed"].upper(), told.get("path") or "probe.aspx"
    for name in told.get("unavailable", []):
        site.network.away.add(site[name].machine.address)
    disk, file = site[changed].machine.disk, site[changed].site.below(path)
    new = (disk.read(file) if disk.stat(file) else b"") + b"<!-- new -->"
    site.put(changed, path, new)
    for start, direction, *to in told["syncs"]:
        asyncio.run(site.synced(start.upper(), " ".join([direction, *to])))
    has = site.having(path, new)
    expected = {name.upper(): reach for name, reach in told["expected"].items() if reach != "unknown"}
    assert expected == {name: "yes" if name in has else "no" for name in expected}


def servers(told: dict[str, Any]) -> Servers:
    """Joined servers of the pools of a case, of an edition that skips a server that is down."""
    names = [name.upper() for name in (*told["staging"], *told["production"])]
    roles = {name.upper(): "staging" for name in told["staging"]}
    return Servers.of(*names, edition="8.5", pools=roles | {n.upper(): p for n, p in told.get("pools", {}).items()})
