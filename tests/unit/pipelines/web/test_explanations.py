"""Why a node is not joined, asked from elsewhere: by a program, and by the command line with ESYNC_SERVER."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli.entry import run as esync
from pipelines.usecases import runs
from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from tests.browser.invented import named
from tests.unit.pipelines.report.sample_run import cluster_of
from tests.unit.pipelines.web.served_site import ServedSite, served_site
from workers.settings import load_settings


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedSite, str]]:
    """A server, and a run that has checked its cluster `shop`, whose file is `store.yaml` as well."""
    with served_site(tmp_path_factory.mktemp("clusters"), Access(starts=1000)) as served:
        started = served.client().post("/api/v1/runs", json={"kind": "verify", "cluster": "shop"})
        run = str(started.json()["run"])
        served.finish(run)
        (served.folder / "store.yaml").write_text((served.folder / "shop.yaml").read_text())
        yield served, run


@pytest.fixture
def elsewhere(checked: tuple[ServedSite, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of a machine that has only the server and the token of a person who looks."""
    monkeypatch.setenv("ESYNC_SERVER", checked[0].server.url)
    monkeypatch.setenv("ESYNC_TOKEN", checked[0].server.token(Role.VIEWER))
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()


@pytest.mark.parametrize("target", ["last", "shop", "store", "RUN"])
def test_a_node_is_explained_by_the_newest_check(checked: tuple[ServedSite, str], target: str) -> None:
    """Of any cluster, of one by its own name or that of its file, or by a run; the node's name as the file has it."""
    served, run = checked
    answer = served.client(Role.VIEWER).get("/api/v1/explanations/s1", params={"target": target.replace("RUN", run)})
    found = answer.json()
    assert (200, "S1", "joined", run, "verify") == (
        answer.status_code, found["node"], found["answer"], found["run"], found["kind"],
    )  # fmt: skip


def test_a_node_of_another_cluster_is_not_explained(checked: tuple[ServedSite, str]) -> None:
    """Neither by name nor by run; the answer is that about what does not exist."""
    served, run = checked
    client = served.client(Role.ADMIN, "another")
    assert 404 == client.get("/api/v1/explanations/S1").status_code
    texts = set()
    for target in (run, "shop", "store", "nothing"):
        refused = client.get("/api/v1/explanations/S1", params={"target": target})
        assert 404 == refused.status_code
        texts.add(refused.text.replace(target, "X"))
    assert 1 == len(texts)


def test_a_run_that_checked_nothing_explains_nothing(checked: tuple[ServedSite, str]) -> None:
    """It says what to do; a node that is not there is answered with those that are."""
    served, run = checked
    plan = runs.start(served.site.engine, named(cluster_of(), "elsewhere"), kind="plan").id
    refused = served.client().get("/api/v1/explanations/S1", params={"target": plan})
    assert (409, True) == (refused.status_code, "did not check the whole cluster" in refused.json()["message"])
    unknown = served.client().get("/api/v1/explanations/S7", params={"target": run})
    assert (409, True) == (unknown.status_code, "Its nodes are S1, S2, P1, P2" in unknown.json()["remedy"])


@pytest.mark.usefixtures("elsewhere")
def test_a_command_elsewhere_explains_a_node(
    checked: tuple[ServedSite, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """In the words, the JSON and the exit status of the command at the broker."""
    run = checked[1]
    assert 0 == esync(["explain", "P1", "shop"])
    shown = capfd.readouterr().out
    assert shown.startswith("P1 ")
    assert f"verify {run}, just now" in shown
    assert 0 == esync(["explain", "P1", "--json"])
    told = json.loads(capfd.readouterr().out)
    assert ("P1", "joined", run, "") == (told["node"], told["answer"], told["run"], told["outcome"])


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("arguments", [["shop.yaml", "P1"], ["P1", "shop.yaml"]])
def test_a_file_of_this_machine_means_nothing_to_a_server(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything is sent, with the name to give instead."""
    assert 1 == esync(["explain", *arguments])
    told = capfd.readouterr().err
    assert "shop.yaml is a file of this machine, and ESYNC_SERVER is set; nothing was sent" in told
    assert "to check it now: esync verify NAME" in told
