"""Every step there is. A new step is one more line in `STEPS`, and a name in a stage (`pipelines/rollout.py`)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from tasks.step_values import Done, Step

if TYPE_CHECKING:
    from tasks.step import Work

__all__ = [
    "CANARY_PLACE",
    "CANARY_REMOVE",
    "CERT_COPY",
    "CLEANUP",
    "CONFIG_EDIT",
    "DRAIN",
    "INSTALL_CHECK",
    "LOAD_BALANCE",
    "OLD_FAMILY",
    "POOL_CHECK",
    "ROLLBACK",
    "ROLLBACK_CHECK",
    "SERVICE_RESTART",
    "STATUS_CLEAR",
    "STATUS_RESTART",
    "STEPS",
    "SYNC_AGAIN",
    "SYNC_FOLLOW",
    "SYNC_LOOK",
    "SYNC_START",
    "SYNC_WATCH",
    "TRUST_BOTH",
    "TRUST_NEW",
    "UNDRAIN",
    "load_steps",
]


@dataclass(frozen=True, slots=True)
class _Of:
    """The function of a step, loaded when it is first called: who shows runs needs the values below and no function.

    Attributes:
        module: its file in this folder.
        name: empty if it is that of the file.
    """

    module: str
    name: str = ""

    def function(self) -> "Callable[[Work], Done]":
        found: Callable[[Work], Done] = getattr(import_module(f"tasks.steps.{self.module}"), self.name or self.module)
        return found

    def __call__(self, work: "Work") -> Done:
        return self.function()(work)


def load_steps(steps: Iterable[Step]) -> None:
    """Loads the functions of steps. A worker does so before it works: a faulty installation then fails at once."""
    for step in steps:
        if isinstance(step.run, _Of):
            step.run.function()


INSTALL_CHECK = Step(name="install_check", run=_Of("install_check"), heading="look")
DRAIN = Step(name="drain", run=_Of("drain"), heading="drain", balances=True)
POOL_CHECK = Step(name="pool_check", run=_Of("pool_check"), heading="balancer", balances=True)
UNDRAIN = Step(name="undrain", run=_Of("undrain"), heading="undrain", always=True, balances=True)
CONFIG_EDIT = Step(name="config_edit", run=_Of("config_edit"), heading="config", changes=True, keeps_backups=True)
CERT_COPY = Step(name="cert_copy", run=_Of("cert_copy"), heading="certs", changes=True, keeps_backups=True)
SERVICE_RESTART = Step(
    name="service_restart", run=_Of("service_restart"), heading="restart", changes=True, restarts=True
)
ROLLBACK_CHECK = Step(name="rollback_check", run=_Of("rollback_check"), heading="look")
ROLLBACK = Step(
    name="rollback",
    run=_Of("rollback"),
    heading="restore",
    changes=True,
    keeps_backups=True,
    completed="restored: as before the run",
)
CLEANUP = Step(
    name="cleanup",
    run=_Of("cleanup"),
    heading="clean",
    changes=True,
    completed="clean: everything to be removed is removed",
)
OLD_FAMILY = Step(name="old_family", run=_Of("renewal", "old_family"), heading="family")
TRUST_BOTH = Step(
    name="trust_both",
    run=_Of("renewal", "trust_both"),
    heading="trust both",
    changes=True,
    keeps_backups=True,
    completed="partly done: trusts both families",
)
TRUST_NEW = Step(
    name="trust_new", run=_Of("renewal", "trust_new"), heading="trust new", changes=True, keeps_backups=True
)
SYNC_LOOK = Step(name="sync_look", run=_Of("sync_look"), heading="look")
CANARY_PLACE = Step(
    name="canary_place",
    run=_Of("canary", "canary_place"),
    heading="place",
    changes=True,
    completed="the canary is placed",
)
SYNC_START = Step(
    name="sync_start", run=_Of("sync_start"), heading="start", changes=True, completed="the sync has begun"
)
SYNC_AGAIN = Step(name="sync_again", run=_Of("sync_again"), heading="again")
SYNC_FOLLOW = Step(name="sync_follow", run=_Of("sync_watch", "sync_follow"), heading="sync")
SYNC_WATCH = Step(name="sync_watch", run=_Of("sync_watch"), heading="arrives")
CANARY_REMOVE = Step(
    name="canary_remove",
    run=_Of("canary", "canary_remove"),
    heading="remove",
    changes=True,
    completed="clean: no canary is left",
    always=True,
)
LOAD_BALANCE = Step(
    name="load_balance", run=_Of("load_balance"), heading="refresh", changes=True, completed="refreshed"
)
STATUS_RESTART = Step(
    name="status_restart", run=_Of("stale_status", "status_restart"), heading="restart", changes=True, restarts=True
)
STATUS_CLEAR = Step(
    name="status_clear",
    run=_Of("stale_status", "status_clear"),
    heading="clear",
    changes=True,
    keeps_backups=True,
    completed="clean: no status file is left",
)

#: Every step, by the name it has everywhere.
STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        INSTALL_CHECK,
        CONFIG_EDIT,
        CERT_COPY,
        SERVICE_RESTART,
        ROLLBACK_CHECK,
        ROLLBACK,
        CLEANUP,
        OLD_FAMILY,
        TRUST_BOTH,
        TRUST_NEW,
        DRAIN,
        UNDRAIN,
        SYNC_LOOK,
        CANARY_PLACE,
        SYNC_START,
        SYNC_AGAIN,
        SYNC_FOLLOW,
        SYNC_WATCH,
        CANARY_REMOVE,
        LOAD_BALANCE,
        STATUS_RESTART,
        STATUS_CLEAR,
        POOL_CHECK,
    )
}
