"""How a run proceeds: waves and limits, how many nodes may fail, holds, deadlines and retries."""

import math
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tasks.connection import Part, text, whole
from workers.errors import Failure

__all__ = ["FILE", "POOL", "Deadlines", "Policy", "PoolPolicy", "Retries", "Word"]

FILE = "file"  #: as `order`: that of the cluster file
POOL = "pool"  #: the label that every node has

Word = Annotated[
    str,
    text(
        r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        "1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit",
        longest=64,
    ),
]
Seconds = Annotated[float, Field(gt=0, le=86400, description="more than 0 and at most 86400 seconds")]
Tries = Annotated[int, whole(1, 20, ", including the first attempt")]
Share = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(100|[1-9]?[0-9])%$")]
_SHARE = 'a whole number of nodes from 0, a percentage such as "10%", or null for {}'


def _nodes(share: int | str, of: int) -> int:
    """A number of nodes, or a percentage of `of` nodes, rounded down."""
    return share if isinstance(share, int) else math.floor(of * int(share.removesuffix("%")) / 100)


class Deadlines(Part):
    """Time limits in seconds, each measured by the worker.

    Attributes:
        connect: until a node accepts a connection.
        step: one step on one node, with all its attempts, requests and waits.
        service: until a service has stopped or started.
        run: a whole run, without the time in which it is paused.
        cancel: how long a cancelled run waits for running steps.
        settle: how long a restarted service is watched: it must listen all the time, as the same process.
    """

    connect: Seconds = 10
    step: Seconds = 300
    service: Seconds = 90
    run: Seconds = 7200
    cancel: Seconds = 30
    settle: Annotated[float, Field(ge=0, le=600, description="0 to 600 seconds")] = 10


class Retries(Part):
    """How often a step is attempted, by the class of its failure (workers/errors.py). Only one layer retries.

    Refused and stale steps are attempted once, whatever is set here: accounts get locked, and a stale plan stays stale.

    Attributes:
        unreachable: no connection, or it broke; the step observes the node again in a new session.
        conflict: a file was changed or locked by another program during the step.
        timeout: a time limit ended before the node was done.
        failed: anything else.
        backoff: seconds before the second attempt, doubled each time, with jitter.
        longest: seconds between two attempts at most.
    """

    unreachable: Tries = 3
    conflict: Tries = 3
    timeout: Tries = 1
    failed: Tries = 1
    backoff: Annotated[float, Field(ge=0, le=60, description="0 to 60 seconds")] = 0.2
    longest: Annotated[float, Field(ge=0, le=600, description="0 to 600 seconds")] = 3.0

    def attempts(self, failure: Failure | None) -> int:
        """The number of attempts for a failure of that class, including the first one."""
        return self._worth.get(failure, 1)

    @property
    def _worth(self) -> dict[Failure | None, int]:
        return {
            Failure.UNREACHABLE: self.unreachable,
            Failure.CONFLICT: self.conflict,
            Failure.TIMEOUT: self.timeout,
            Failure.FAILED: self.failed,
        }


class PoolPolicy(Part):
    """How far a run may reduce a pool that has a balancer.

    Attributes:
        min_healthy: servers of the pool that get requests at every moment: a number, or a percentage of its servers,
            rounded up. Null is 1, in a pool of one server 0.
    """

    min_healthy: Annotated[Share | None, Field(description=_SHARE.format("1"))] = None

    def floor(self, size: int) -> int:
        """The number of servers of a pool of that size that have to get requests."""
        if self.min_healthy is None:
            return min(1, size - 1)
        share = self.min_healthy
        return share if isinstance(share, int) else math.ceil(size * int(share.removesuffix("%")) / 100)


class Policy(Part):
    """How a run proceeds.

    Attributes:
        concurrency: nodes in work at the same time, from the begin of their first step in a turn to the end of their
            last.
        waves: `pools` (pool after pool, staging first), `all`, or sizes such as `[1, 5, "25%", "100%"]`. A wave that
            would restart more than half of a pool is split.
        order: of the nodes in and over the waves: that of the `file`, by `pool`, or by a label: nodes with the same
            value follow each other, values and nodes in the order of the file; nodes without the label come last.
        at_most: label -> how many nodes with the same value of it are in work at the same time; `pool` is one.
        whole_pool: a wave may restart all servers of a pool together. Otherwise it restarts half of a pool at most; of
            a pool of one server, that one.
        pools: pool -> how far the run may reduce it.
        judge_waves: after each wave the nodes that it changed are looked at again, and a failed node of the first wave
            stops the run. Without it only the limits count.
        hold: whether the run waits for `esync promote`: `after-canary` (the first wave) or `after-each-wave`; null
            never. After it the nodes of that wave are looked at again.
        hold_for: seconds after which it continues by itself; null never.
        approval: `second-person`: before the run changes anything, another person than the one who requested it has to
            approve its plan (`esync approve`); null: no approval.
        max_failed: a run stops after a wave if more nodes than this have failed so far: nodes, or a percentage of the
            cluster; null is a third.
        max_failed_per_wave: the same for the nodes of one wave; null is no limit of its own.
        max_unreachable: the same for nodes that did not answer, also before the first wave; null is as `max_failed`.
        retry_in_wave: how often nodes that failed are tried again at the end of their wave, while the budget lasts.
        max_refused: refused logons that an account may have in one run. After that, no node is tried that has not
            accepted the account before, and the run stops (accounts get locked). At most this number of nodes log on
            with an account for the first time at the same time. If no node has accepted the account, the run stops
            at the first refusal; 0 counts as 1.
        unreachable: `continue` without the unreachable nodes, or `stop` before anything is written. Null stops only
            a run that changes the certificate family: a node that misses it is cut off from the others.
        stale: if a node has changed since a saved plan was made, `stop` before anything is written, or `continue`
            without the node.
        keep_backups_days: how long the nodes keep replaced files; `cleanup` removes older ones.
        generate_certificates: generate a family if the origin has none, instead of stopping at the gate.
        deadlines: time limits in seconds.
        retries: how often a step is attempted, by the class of its failure.
    """

    concurrency: Annotated[int, whole(1, 1000)] = 50
    waves: Annotated[
        Literal["pools", "all"] | tuple[int | str, ...],
        Field(description='pools, all, or sizes such as [1, 5, "25%", "100%"]'),
    ] = "pools"
    order: Annotated[Word, Field(description="file, pool, or the name of a label of the nodes")] = FILE
    at_most: Annotated[
        dict[Word, Annotated[int, Field(ge=1)]],
        Field(max_length=16, description="whole numbers from 1 by label, such as {rack: 2}"),
    ] = Field(default_factory=dict)
    whole_pool: bool = False
    pools: Annotated[dict[Word, PoolPolicy], Field(max_length=100, description="{min_healthy: 2} by pool")] = Field(
        default_factory=dict
    )
    judge_waves: bool = True
    hold: Literal["after-canary", "after-each-wave"] | None = None
    hold_for: Seconds | None = None
    approval: Literal["second-person"] | None = None
    max_failed: Annotated[Share | None, Field(description=_SHARE.format("a third of the cluster"))] = None
    max_failed_per_wave: Annotated[Share | None, Field(description=_SHARE.format("no limit"))] = None
    max_unreachable: Annotated[Share | None, Field(description=_SHARE.format("as max_failed"))] = None
    retry_in_wave: Annotated[int, whole(0, 5)] = 1
    max_refused: Annotated[int, whole(0, 1000)] = 2
    unreachable: Literal["continue", "stop"] | None = None
    stale: Literal["stop", "continue"] = "stop"
    generate_certificates: bool = False
    keep_backups_days: Annotated[int, whole(0, 3650)] = 30
    deadlines: Deadlines = Deadlines()
    retries: Retries = Retries()

    @field_validator("waves")
    @classmethod
    def _sizes(cls, waves: object) -> object:
        if waves == ():
            raise ValueError("is empty")
        for size in waves if isinstance(waves, tuple) else ():
            if not re.fullmatch(r"[1-9][0-9]*|(100|[1-9][0-9]?)%", str(size)):
                raise ValueError(f"{size!r} is not a wave size")
        return waves

    @staticmethod
    def of_earlier_versions() -> dict[str, object]:
        """What the policy of a run meant that was requested before these keys existed."""
        return {"whole_pool": True, "judge_waves": False, "retry_in_wave": 0, "max_unreachable": "100%"}

    def allowed_failures(self, cluster: int) -> int:
        """How many nodes of a cluster of that size may fail."""
        return max(1, cluster // 3) if self.max_failed is None else _nodes(self.max_failed, cluster)

    def allowed_failures_of_wave(self, wave: int) -> int:
        """How many nodes of a wave of that size may fail, apart from the limit of the run."""
        return wave if self.max_failed_per_wave is None else _nodes(self.max_failed_per_wave, wave)

    def allowed_unreachable(self, cluster: int) -> int:
        """How many nodes of a cluster of that size may be unreachable."""
        return self.allowed_failures(cluster) if self.max_unreachable is None else _nodes(self.max_unreachable, cluster)
