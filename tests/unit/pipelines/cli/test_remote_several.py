"""`esync status` and `esync watch` of several runs of a server: by name, by files of this machine, and as a group."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli.entry import run
from pipelines.run.groups import Place
from pipelines.usecases import control
from pipelines.usecases.groups import Member, start_group
from pipelines.usecases.runs import start
from pipelines.usecases.tokens import Role
from pipelines.web.client import EsyncClient
from tasks.cluster import Cluster
from tests.unit.pipelines.steered_workers import PASSWORD
from tests.unit.pipelines.web.served_site import CLUSTER, PLANTED, ServedSite, served_site
from tests.waiting import wait_until
from workers.errors import ClusterLocked, InputRefused, NotFound
from workers.records import RunState
from workers.settings import load_settings


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedSite]:
    """A server, and the environment of a machine that has only its address and a token."""
    monkeypatch.setenv(PASSWORD, PLANTED)
    (tmp_path / "server").mkdir()
    with served_site(tmp_path / "server") as site:
        monkeypatch.setenv("ESYNC_SERVER", site.server.url)
        monkeypatch.setenv("ESYNC_TOKEN", site.server.token(Role.OPERATOR, name="ann"))
        monkeypatch.setattr("pipelines.cli.server_runs.INTERVAL", 0.05)
        monkeypatch.chdir(tmp_path)
        load_settings.cache_clear()
        yield site


def text_of(name: str, number: int) -> str:
    """A cluster file with servers of its own."""
    text = CLUSTER.replace("{POLICY}", "{}").replace("name: shop", f"name: {name}")
    return text.replace(".example.net", f".{number}.example.net")


def clusters(folder: Path, *names: str) -> list[Cluster]:
    """Files of these clusters in a new folder of this machine, read."""
    from pipelines.cluster_file.loader import load_cluster  # noqa: PLC0415 - as the command

    folder.mkdir()
    for number, name in enumerate(names):
        (folder / f"{name}.yaml").write_text(text_of(name, number))
    return [load_cluster(folder / f"{name}.yaml") for name in names]


def grouped(served: ServedSite, members: list[Cluster], at_most: int = 8) -> tuple[list[str], str]:
    """A new group of runs of these clusters; and its name."""
    runs = [one.id for one in start_group(served.site.engine, [Member(one) for one in members], at_most=at_most)]
    place = Place.of(runs[0])
    assert place is not None
    return runs, place.group


def cancelled(served: ServedSite, one: str) -> None:
    """Ends a run."""
    control.cancel(served.site.engine, one, "enough")
    served.finish(one)
    assert served.site.store.run(one).state is RunState.CONCLUDED


def test_several_runs_have_a_line_each(served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What went wrong is first; runs are named by their clusters, and the names of the server's files."""
    east, west = clusters(tmp_path / "here", "east", "west")
    runs = [start(served.site.engine, one).id for one in (east, west)]
    (served.folder / "depot.yaml").write_text(text_of("east", 0))
    cancelled(served, runs[1])
    assert run(["status", "depot", "west"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["CLUSTER", "RUN", "STATE"]
    assert first.split()[:3] == ["west", runs[1], "cancelled"]
    assert second.split()[:3] == ["east", runs[0], "beginning"]
    assert run(["status", "here/east.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == runs[0]


def test_a_folder_of_this_machine_says_which_clusters_are_meant(
    served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cluster of the same name with other servers is not meant; a file with mistakes hides no other."""
    east, _ = clusters(tmp_path / "here", "east", "west")
    clusters(tmp_path / "other", "x", "west")
    runs = [start(served.site.engine, east).id]
    start(served.site.engine, clusters(tmp_path / "third", "y", "z", "west")[2])
    (tmp_path / "here" / "wrong.yaml").write_text("name: x\n")
    assert run(["status", "here", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(one["cluster"], one["run"]) for one in printed["clusters"]] == [
        ("east", runs[0]), ("west", ""), ("wrong", ""),
    ]  # fmt: skip
    assert printed["clusters"][0]["status"]["run"] == runs[0]
    assert run(["status", "here"]) == 0
    shown = capsys.readouterr().out
    assert "there is no run of this cluster yet" in shown
    assert "the file cannot be used: esync check here/wrong.yaml" in shown


def test_a_group_is_followed_to_its_end(served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal with a line for each; the exit status is that of the worst. Other runs are left out."""
    runs, group = grouped(served, clusters(tmp_path / "here", "east", "west"), at_most=1)
    start(served.site.engine, clusters(tmp_path / "other", "a", "b", "lone")[2])
    with EsyncClient(served.server.url, served.server.token(Role.VIEWER)) as client:
        assert [row.run for row in client.runs(group=group)] == runs[::-1]
    assert run(["status", group]) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert (first.split()[:3], second.split()[:3]) == (["east", runs[0], "beginning"], ["west", runs[1], "waiting"])

    def end() -> None:
        for one in runs:
            time.sleep(0.2)
            cancelled(served, one)

    ending = threading.Thread(target=end)
    ending.start()
    assert run(["watch", group, "--json"]) == 130
    ending.join()
    said = capsys.readouterr()
    assert [one["verdict"] for one in json.loads(said.out)["clusters"]] == ["cancelled", "cancelled"]
    assert said.err.count("  cancelled: enough") == 2
    assert "2 clusters: 2 cancelled" in said.err


def test_the_list_of_a_server_says_what_runs_wait_for(
    served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the list here: a run that is paused, or whose turn has not come, does not just run."""
    runs, _ = grouped(served, clusters(tmp_path / "here", "east", "west"), at_most=1)
    control.pause(served.site.engine, runs[0], "lunch")
    assert run(["runs"]) == 0
    _, last, first = capsys.readouterr().out.splitlines()
    assert (runs[1] in last, runs[0] in first) == (True, True)
    assert ("  waits for its turn  " in last, "  paused  " in first) == (True, True)
    assert run(["runs", "--json"]) == 0
    assert [row["doing"] for row in json.loads(capsys.readouterr().out)] == ["waits for its turn", "paused"]


def test_the_list_of_a_server_is_that_of_some_clusters(
    served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By files or folders of this machine; a cluster of the same name with other servers is not meant."""
    east, west = clusters(tmp_path / "here", "east", "west")
    other = clusters(tmp_path / "other", "x", "y", "west")[2]
    runs = [start(served.site.engine, one).id for one in (east, west, other, west)]
    (tmp_path / "here" / "wrong.yaml").write_text("name: x\n")
    assert run(["runs", "here", "--json"]) == 0
    said = capsys.readouterr()
    assert {row["run"] for row in json.loads(said.out)} == {runs[0], runs[1], runs[3]}
    assert "wrong.yaml: the file cannot be used" in said.err
    assert run(["runs", "here/west.yaml", "-n", "1"]) == 0
    _, newest = capsys.readouterr().out.splitlines()
    assert runs[1] in newest or runs[3] in newest
    assert run(["runs", "other/x.yaml"]) == 0
    assert capsys.readouterr().err == "there are no runs of these clusters\n"


def test_a_name_that_two_clusters_share_is_refused(
    served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As without a server: so is `last` by what changes a run; `name@digest` and a file say which one is meant."""
    (west,) = clusters(tmp_path / "here", "west")
    other = clusters(tmp_path / "other", "x", "west")[1]
    runs = [start(served.site.engine, one).id for one in (west, other)]
    for command in (["status", "west"], ["watch", "west"], ["pause", "west"], ["pause", "last"]):
        assert run(command) == 1
        said = capsys.readouterr().err
        assert f"{command[1]} can mean runs of several clusters: " in said
        assert all(f"{one} of west@{cluster.digest}" in said for one, cluster in zip(runs, (west, other), strict=True))
    for name in (f"west@{west.digest[:6]}", "here/west.yaml"):
        assert run(["status", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["run"] == runs[0]
    assert run(["status", "--json"]) == 0
    (served.folder / "depot.yaml").write_text(text_of("west", 0))
    capsys.readouterr()
    assert run(["pause", "depot"]) == 0
    assert f"run {runs[0]} is paused" in capsys.readouterr().err


def test_a_group_is_cancelled(served: ServedSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All runs of it that have not ended. It can be paused and resumed before."""
    runs, group = grouped(served, clusters(tmp_path / "here", "east", "west", "north"))
    cancelled(served, runs[0])
    for verb, said in (("pause", "paused; to continue: esync resume"), ("resume", "resumed; to see them: esync watch")):
        assert run([verb, group]) == 0
        assert f"2 runs of group {group} are {said} {group}" in capsys.readouterr().err
    for verb, said in (("resume", "can be resumed"), ("promote", "can be promoted")):
        assert run([verb, group]) == 1
        assert f"no run of group {group} {said}" in capsys.readouterr().err
    assert run(["cancel", group, "--reason", "not today"]) == 0
    assert f"2 runs of group {group} are stopping; to see their end: esync watch {group}" in capsys.readouterr().err
    for one in runs[1:]:
        served.finish(one)
        assert served.site.store.run(one).summary.startswith("cancelled: not today (by ann ")
    assert run(["cancel", group]) == 0
    assert f"the runs of group {group} have ended already" in capsys.readouterr().err


def test_ctrl_c_says_which_runs_continue(
    served: ServedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how to watch and to stop them."""
    runs, group = grouped(served, clusters(tmp_path / "here", "east", "west"))
    cancelled(served, runs[0])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.cli.server_runs.show_board", interrupted)
    assert run(["watch", group]) == 130
    said = capsys.readouterr().err
    assert "This command stops; its 1 run continues (1 of 2 have ended)." in said
    assert f"To watch them: esync watch {group}; to stop them: esync cancel {group}" in said


def with_files(served: ServedSite, *names: str) -> None:
    """Cluster files of the server, with servers of their own."""
    for number, name in enumerate(names):
        (served.folder / f"{name}.yaml").write_text(text_of(name, number))


def finishing(served: ServedSite, ended: threading.Event) -> None:
    """Does the work of workers until the command has ended."""
    while not ended.wait(0.05):
        for one in served.site.store.active():
            served.finish(one)


@pytest.fixture
def worked(served: ServedSite) -> Iterator[ServedSite]:
    """A server whose runs are worked on, with the cluster files `east` and `west`."""
    with_files(served, "east", "west")
    ended = threading.Event()
    thread = threading.Thread(target=finishing, args=(served, ended))
    thread.start()
    yield served
    ended.set()
    thread.join()


@pytest.mark.usefixtures("worked")
def test_several_clusters_of_the_server_are_verified_together(capsys: pytest.CaptureFixture[str]) -> None:
    """In one group, with the results of each in one document, in the order of the command; none twice."""
    assert run(["verify", "west", "east", "west", "--at-most", "1", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [("west", "joined"), ("east", "joined")] == [(one["file"], one["verdict"]) for one in found["clusters"]]
    places = [Place.of(one["run"]) for one in found["clusters"]]
    assert [(1, 0), (1, 1)] == [(one.at_most, one.number) for one in places if one]
    assert "verify of 2 clusters, 1 at a time: west, east" in printed.err
    assert "2 clusters: 2 joined" in printed.err


def test_several_plans_are_made_and_applied_exactly(worked: ServedSite) -> None:
    """A rollout of several clusters applies the plans of an earlier request, each to its own cluster."""
    with EsyncClient(worked.server.url, worked.server.token(Role.OPERATOR, name="ann")) as client:
        planned = client.start_group(["east", "west"], kind="plan", at_most=2)
        for row in planned:
            wait_until(lambda row=row: client.status(row.run).verdict)  # type: ignore[misc] # the loop waits for each
        plans = {row.cluster: row.run for row in planned}
        begun = client.start_group(["east", "west"], at_most=2, plans=plans)
        fingerprints = [client.plan(row.run).fingerprint for row in planned]
        assert fingerprints == [client.record(row.run).plan_fingerprint for row in begun]
        for row in begun:
            wait_until(lambda row=row: client.status(row.run).verdict)  # type: ignore[misc] # the same
        crossed = {"east": plans["west"]}
        with pytest.raises(InputRefused, match="for another cluster"):
            client.start_group(["east", "west"], at_most=2, plans=crossed)


def test_the_same_request_again_continues_its_runs(served: ServedSite) -> None:
    """Others of their clusters are refused: no run would do anything but end for a lock."""
    with_files(served, "east", "west")
    with EsyncClient(served.server.url, served.server.token(Role.OPERATOR, name="ann")) as client:
        first = client.start_group(["east", "west"], at_most=1)
        again = client.start_group(["west", "east"], at_most=1)
        assert [row.run for row in first] == [row.run for row in again][::-1]
        with pytest.raises(ClusterLocked):
            client.start_group(["east", "west"], at_most=1, prune=True)
        with pytest.raises(NotFound):
            client.start_group(["east", "none"], at_most=1)
        with pytest.raises(InputRefused, match="names each of them once"):
            client.start_group(["east", "east"], at_most=1)


def test_a_request_for_several_needs_the_right_to_each(served: ServedSite) -> None:
    """A cluster of others is as if it were not there, and no run is created for the one that is the caller's."""
    with_files(served, "east", "west")
    with EsyncClient(served.server.url, served.server.token(Role.OPERATOR, "east", name="ann")) as client:
        with pytest.raises(NotFound):
            client.start_group(["east", "west"], at_most=2)
        assert [] == list(client.runs())
        assert ["east"] == [row.cluster for row in client.start_group(["east"], at_most=1)]


@pytest.mark.parametrize("option", [["--node", "S1"], ["--key", "k"]])
@pytest.mark.usefixtures("served")
def test_options_about_one_cluster_are_refused_for_several(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As beside the broker; nothing is started."""
    assert run(["rollout", "east", "west", "-y", *option]) == 64
    assert f"{option[0]} is for one cluster" in capsys.readouterr().err
