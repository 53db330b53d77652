"""What a worker costs that has nothing to do."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
from redis import Redis

from tests.integration.harness import harness_at
from tests.waiting import wait_until
from workers.redis.connection import connect
from workers.settings import Settings

SECONDS = 6.0  #: enough for every timer of Celery and of ours to be seen
START = 3.0  #: seconds in which a worker does what it does once
COMMANDS = 5.0  #: a second
CPU = 0.01


def used(pid: int) -> float:
    """CPU seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def sent(client: Redis) -> int:
    """Commands that the server has carried out so far, also those of scripts; not this question."""
    counted = client.info("commandstats")
    return sum(one["calls"] for name, one in counted.items() if name != "cmdstat_info")


def test_an_idle_worker_costs_next_to_nothing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """With the product's settings: at most 5 commands a second, and 1 % of a processor."""
    default = str(Settings.model_fields["reconcile_every"].default)
    with (
        harness_at(tmp_path, ESYNC_RECONCILE_EVERY=default) as harness,
        connect(harness.engine.settings.store()) as asked,
    ):
        harness.wait_for_worker()
        worker = harness.worker
        assert worker is not None
        wait_until(lambda: "ready" in harness.log(), harness.log)
        wait_until(harness.engine.own_queues.served, harness.log)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() > started + START)
        harness.engine.app.close()
        cpu, commands, begun = used(worker.pid), sent(asked), time.monotonic()
        wait_until(lambda: time.monotonic() > begun + SECONDS)
        lasted = time.monotonic() - begun
        cpu, rate = (used(worker.pid) - cpu) / lasted, (sent(asked) - commands) / lasted
    record_property("measured", f"an idle worker: {rate:.1f} commands a second, {cpu:.1%} CPU")
    assert rate <= COMMANDS
    assert cpu <= CPU
