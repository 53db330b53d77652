"""Every step there is. A new step is one more line in `STEPS`, and a name in a stage (`pipelines/rollout.py`)."""

from tasks.step import Step
from tasks.steps.canary import canary_place, canary_remove
from tasks.steps.cert_copy import cert_copy
from tasks.steps.cleanup import cleanup
from tasks.steps.config_edit import config_edit
from tasks.steps.drain import drain
from tasks.steps.install_check import install_check
from tasks.steps.load_balance import load_balance
from tasks.steps.pool_check import pool_check
from tasks.steps.renewal import old_family, trust_both, trust_new
from tasks.steps.rollback import rollback
from tasks.steps.rollback_check import rollback_check
from tasks.steps.service_restart import service_restart
from tasks.steps.stale_status import status_clear, status_restart
from tasks.steps.sync_again import sync_again
from tasks.steps.sync_look import sync_look
from tasks.steps.sync_start import sync_start
from tasks.steps.sync_watch import sync_follow, sync_watch
from tasks.steps.undrain import undrain

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
]

INSTALL_CHECK = Step(name="install_check", run=install_check, heading="look")
DRAIN = Step(name="drain", run=drain, heading="drain", balances=True)
POOL_CHECK = Step(name="pool_check", run=pool_check, heading="balancer", balances=True)
UNDRAIN = Step(name="undrain", run=undrain, heading="undrain", always=True, balances=True)
CONFIG_EDIT = Step(name="config_edit", run=config_edit, heading="config", changes=True, keeps_backups=True)
CERT_COPY = Step(name="cert_copy", run=cert_copy, heading="certs", changes=True, keeps_backups=True)
SERVICE_RESTART = Step(name="service_restart", run=service_restart, heading="restart", changes=True, restarts=True)
ROLLBACK_CHECK = Step(name="rollback_check", run=rollback_check, heading="look")
ROLLBACK = Step(
    name="rollback",
    run=rollback,
    heading="restore",
    changes=True,
    keeps_backups=True,
    completed="restored: as before the run",
)
CLEANUP = Step(
    name="cleanup", run=cleanup, heading="clean", changes=True, completed="clean: everything to be removed is removed"
)
OLD_FAMILY = Step(name="old_family", run=old_family, heading="family")
TRUST_BOTH = Step(
    name="trust_both",
    run=trust_both,
    heading="trust both",
    changes=True,
    keeps_backups=True,
    completed="partly done: trusts both families",
)
TRUST_NEW = Step(name="trust_new", run=trust_new, heading="trust new", changes=True, keeps_backups=True)
SYNC_LOOK = Step(name="sync_look", run=sync_look, heading="look")
CANARY_PLACE = Step(
    name="canary_place", run=canary_place, heading="place", changes=True, completed="the canary is placed"
)
SYNC_START = Step(name="sync_start", run=sync_start, heading="start", changes=True, completed="the sync has begun")
SYNC_AGAIN = Step(name="sync_again", run=sync_again, heading="again")
SYNC_FOLLOW = Step(name="sync_follow", run=sync_follow, heading="sync")
SYNC_WATCH = Step(name="sync_watch", run=sync_watch, heading="arrives")
CANARY_REMOVE = Step(
    name="canary_remove",
    run=canary_remove,
    heading="remove",
    changes=True,
    completed="clean: no canary is left",
    always=True,
)
LOAD_BALANCE = Step(name="load_balance", run=load_balance, heading="refresh", changes=True, completed="refreshed")
STATUS_RESTART = Step(name="status_restart", run=status_restart, heading="restart", changes=True, restarts=True)
STATUS_CLEAR = Step(
    name="status_clear",
    run=status_clear,
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
