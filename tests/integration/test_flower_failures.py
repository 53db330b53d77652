"""Failed steps are FAILURE in Flower, with node and message; for the rest of Celery their tasks have succeeded."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import expect

from pipelines.engine import Engine
from pipelines.local.provided import FlowerAccess
from pipelines.local.services import engine_with_worker
from pipelines.usecases import runs as commands
from pipelines.usecases.runs import RunSummary
from tests.browsing import chromium
from tests.integration.harness import cluster_of, four_servers
from tests.integration.test_flower import STEPS, page
from tests.waiting import wait_until
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE, STARTS_QUEUE
from workers.records import RunState, Status, StepOutcome, Verdict
from workers.redis.connection import connect
from workers.settings import Settings

pytestmark = pytest.mark.integration

WRONG = {Status.FAILED, Status.UNREACHABLE}


@dataclass(frozen=True)
class Ended:
    """A run that has ended, and the services that ran it."""

    engine: Engine
    flower: FlowerAccess
    run: RunSummary

    def tasks(self, state: str) -> list[dict[str, Any]]:
        """The steps that Flower lists in that state."""
        listed = json.loads(page(self.flower, f"/api/tasks?limit=1000&state={state}")).values()
        return [task for task in listed if task["name"] in STEPS]

    def events(self) -> Counter[str]:
        """The events about steps that Flower has counted, by type."""
        counted: Counter[str] = Counter()
        for labels, count in re.findall(
            r"^flower_events_total\{(.+)\} (\S+)$", page(self.flower, "/metrics"), re.MULTILINE
        ):
            of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if of["task"] in STEPS:
                counted[of["type"]] += int(float(count))
        return counted


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """A rollout on four servers: the disk of P1 was full, P2 refused connections."""
    folder = tmp_path_factory.mktemp("failures")
    with (
        four_servers(folder / "lab") as lab,
        engine_with_worker(
            Settings(state=folder / "state", workers=1), lambda _: None, kind="up", flower=True
        ) as services,
    ):
        assert services.flower is not None
        lab.break_node("P1", disk_free=0)
        lab.break_node("P2", refuse_connections=True)
        run, store = commands.start(services.engine, cluster_of(lab)).id, services.engine.store
        wait_until(lambda: store.run(run).state is RunState.CONCLUDED)
        found = Ended(services.engine, services.flower, commands.summary(services.engine, run))
        ran = len([one for one in found.run.outcomes if one.worker])
        wait_until(lambda: ran <= len(found.tasks("FAILURE")) + len(found.tasks("SUCCESS")))
        yield found


def shown(one: StepOutcome) -> tuple[str, str, str]:
    """Name, arguments and exception of a failed step in Flower."""
    message = one.message.removeprefix(f"{one.node}: ")
    text = f"{one.node}: {one.step} {one.status} ({one.slug}): {message}"
    return (f"esync.{one.step}", f"'{one.run}', '{one.turn}', '{one.node}'", text)


def test_the_failed_steps_of_a_run_are_listed(ended: Ended) -> None:
    """Filtered by FAILURE, Flower lists each failed and unreachable step with node and message, and nothing else."""
    listed = sorted((task["name"], task["args"].strip("[()]"), task["exception"]) for task in ended.tasks("FAILURE"))
    assert sorted(shown(one) for one in ended.run.outcomes if one.status in WRONG) == listed
    assert {"P1", "P2"} == {text.partition(":")[0] for _, _, text in listed}
    assert [] == [task for task in ended.tasks("FAILURE") if task["traceback"] or not task["runtime"]]


def test_skipped_steps_are_not_failed(ended: Ended) -> None:
    """A step that was skipped because an earlier one had failed is listed as succeeded, with its status as result."""
    skipped = {one.step for one in ended.run.outcomes if one.node == "P1" and one.status is Status.SKIPPED}
    assert skipped
    results = [task["result"] for task in ended.tasks("SUCCESS") if "'P1'" in task["args"]]
    assert all(any(f"'step': '{step}', 'status': 'skipped'" in result for result in results) for step in skipped)


def test_the_run_joins_and_decides(ended: Ended) -> None:
    """Every turn is joined once, and the verdict names the failure."""
    record = ended.run.record
    assert Verdict.FAILED is record.verdict
    assert tuple(turn.name for turn in record.turns) == record.joined


def test_the_rest_of_celery_sees_a_success(ended: Ended) -> None:
    """Acknowledgements, `celery inspect` and the events are those of tasks that succeeded; no result is kept."""
    tasks = [*ended.tasks("FAILURE"), *ended.tasks("SUCCESS")]
    app = ended.engine.app
    assert {"PENDING"} == {app.AsyncResult(task["uuid"]).state for task in tasks}
    with connect(ended.engine.settings.store()) as client:
        queues = (CONTROL_QUEUE, STARTS_QUEUE, NODES_QUEUE)
        assert [0, 0, 0, 0] == [*(client.llen(queue) for queue in queues), client.hlen("esync.v1.unacked")]
    inspect = app.control.inspect(destination=sorted({task["worker"] for task in tasks}), timeout=60)
    assert all(not left for asked in (inspect.active(), inspect.reserved()) for left in asked.values())
    workers = inspect.stats()
    password = str(app.conf.broker_url).split("@")[0].rpartition(":")[2]
    assert all(password not in str(stats) + page(ended.flower, f"/worker/{name}") for name, stats in workers.items())
    done = [count for stats in workers.values() for name, count in stats["total"].items() if name in STEPS]
    assert len(tasks) == sum(done)
    events = ended.events()
    assert events["task-started"] == events["task-succeeded"] + events["task-failed"] == len(tasks)
    assert len(ended.tasks("FAILURE")) == events["task-failed"]


def test_a_browser_lists_the_failed_steps(ended: Ended) -> None:
    """A click on `Failed` on the page of tasks: each failed step with its node, and no other."""
    flower = ended.flower
    with (
        chromium() as browser,
        browser.new_context(
            http_credentials={"username": flower.user, "password": flower.password.reveal()}
        ) as context,
    ):
        shown = context.new_page()
        shown.goto(f"{flower.url.rstrip('/')}/tasks")
        shown.get_by_role("button", name="Failed").click()
        wanted = ended.tasks("FAILURE")
        rows = shown.locator("#tasks-table tbody tr", has_text="FAILURE")
        expect(rows).to_have_count(len(wanted), timeout=30_000)
        expect(shown.locator("#tasks-table tbody tr", has_text="SUCCESS")).to_have_count(0)
        texts = rows.all_inner_texts()
    assert {"P1", "P2"} == {node for node in ("S1", "S2", "P1", "P2") if any(f"'{node}'" in text for text in texts)}
