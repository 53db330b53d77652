"""The product against bare pywinrm: the lab records a join and answers the same messages again, as pywinrm sends them.

The client is `tests.benchmarks.pywinrm_client`, a process of its own, with as many threads as a worker has.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.bars import Values
from tests.benchmarks.installation import Installation, Job, installation, whole_cluster
from tests.benchmarks.jobs import checked
from workers.settings import Settings

__all__ = ["replay"]


def replay(nodes: int, rounds: int) -> Values:
    """A join and its replay, one after the other, that many times."""
    pairs = [_pair(nodes) for _ in range(rounds)]
    ours, bare = [job for job, _ in pairs], [told for _, told in pairs]
    return {
        "replay.cpu": statistics.median(job.worker_cpu / told["cpu"] for job, told in pairs),
        "replay.wall": statistics.median(job.seconds / told["wall"] for job, told in pairs),
        "replay.bare.cpu": 1000 * statistics.median(told["cpu"] for told in bare) / nodes,
        "replay.bare.wall": statistics.median(told["wall"] for told in bare),
        "replay.ours.cpu": 1000 * statistics.median(job.worker_cpu for job in ours) / nodes,
        "replay.bare.trips": statistics.median(told["trips"] for told in bare) / nodes,
        "replay.ours.trips": statistics.median(_trips(job) for job in ours) / nodes,
        "replay.bare.bytes": statistics.median(told["bytes"] for told in bare) / nodes / 1000,
        "replay.ours.bytes": statistics.median(job.bytes_per_node() for job in ours) / 1000,
    }


def _trips(job: Job) -> int:
    return sum(counted["round_trips"] for counted in job.counts.values())


def _pair(nodes: int) -> tuple[Job, dict[str, float]]:
    with installation(nodes) as ready:
        ready.lab.converse("record")
        job = checked(ready.job(whole_cluster(ready.lab)))
        return job, _replayed(ready)


def _replayed(ready: Installation) -> dict[str, float]:
    lab, file = ready.lab, ready.folder / "conversations.json"
    told: dict[str, Any] = {
        "user": whole_cluster(lab).connection.user,
        "ca_file": str(lab.ca_file),
        "threads": Settings().concurrency,
        "nodes": [
            {"address": lab.nodes[node]["address"], "port": lab.nodes[node]["port"], "messages": lab.messages(node)}
            for node in lab.nodes
        ],
    }
    file.write_text(json.dumps(told))
    lab.converse("play")
    before = lab.totals()["round_trips"], _bytes(ready)
    # Without proxies: for them requests changes the environment of the process, which its threads read meanwhile.
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**plain, "BENCH_PASSWORD_FILE": str(lab.folder / "password")}
    command = [sys.executable, str(Path(__file__).with_name("pywinrm_client.py")), str(file)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    after = lab.totals()["round_trips"], _bytes(ready)
    return {**json.loads(done.stdout), "trips": after[0] - before[0], "bytes": after[1] - before[1]}


def _bytes(ready: Installation) -> int:
    return sum(one["bytes_received"] + one["bytes_sent"] for one in ready.lab.reports().values())
