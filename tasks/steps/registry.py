"""Every step there is. A new step is one more line in `STEPS`, and a name in a stage (`pipelines/rollout.py`)."""

from tasks.step import Step
from tasks.steps.cert_copy import cert_copy
from tasks.steps.cleanup import cleanup
from tasks.steps.config_edit import config_edit
from tasks.steps.install_check import install_check
from tasks.steps.rollback import rollback
from tasks.steps.rollback_check import rollback_check
from tasks.steps.service_restart import service_restart

__all__ = [
    "CERT_COPY",
    "CLEANUP",
    "CONFIG_EDIT",
    "INSTALL_CHECK",
    "ROLLBACK",
    "ROLLBACK_CHECK",
    "SERVICE_RESTART",
    "STEPS",
]

INSTALL_CHECK = Step(name="install_check", run=install_check, heading="check")
CONFIG_EDIT = Step(name="config_edit", run=config_edit, heading="config", changes=True, keeps_backups=True)
CERT_COPY = Step(name="cert_copy", run=cert_copy, heading="certs", changes=True, keeps_backups=True)
SERVICE_RESTART = Step(name="service_restart", run=service_restart, heading="restart", changes=True, restarts=True)
ROLLBACK_CHECK = Step(name="rollback_check", run=rollback_check, heading="check")
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

#: Every step, by the name it has everywhere.
STEPS: dict[str, Step] = {
    step.name: step
    for step in (INSTALL_CHECK, CONFIG_EDIT, CERT_COPY, SERVICE_RESTART, ROLLBACK_CHECK, ROLLBACK, CLEANUP)
}
