"""Observes what matters before anything is set up: limits of WinRM, other programs that write the same files."""

from collections.abc import Mapping

from tasks.ektron.facts.machine import ReadinessFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.readiness import WINRM_LIMITS
from tasks.ektron.rules.rivals import SIGNS, Sign, mentioned
from tasks.observe.replies import system_facts
from tasks.step import Work
from workers.winrm import operations as ops
from workers.winrm.greeting import hello_of
from workers.winrm.operations import Op, Reply

__all__ = ["readiness"]

_TASKS = r"\Windows\System32\Tasks"
_TASK_FILES = 64  #: scheduled tasks that are read, at most
_TASK_BYTES = 262_144


def readiness(work: Work, facts: NodeFacts) -> NodeFacts:
    """The facts, with those that `esync doctor` asks for in addition. Changes nothing on the node.

    Raises:
        EsyncError: the session broke.
    """
    work.report_phase("asking for limits and rivals")
    signs = {sign: _question(sign, facts) for sign in SIGNS}
    asked: list[Op] = [ops.hello(), _limits_question(facts.system_drive), ops.list_folder(facts.system_drive + _TASKS)]
    replies = work.session.ask(
        [*asked, *signs.values()], deadline=work.deadline, keep_going=True, cancelled=work.cancelled
    )
    greeting, limits, tasks = replies[:3]
    found = [f"{sign.program} ({sign.place})" for sign, reply in zip(signs, replies[3:], strict=True) if _seen(reply)]
    scheduled, problem = _scheduled(work, facts, tasks)
    limit_values, limit_problem = _limits(limits)
    return facts.model_copy(
        update={
            "system": system_facts(hello_of(greeting)) if greeting.ok else facts.system,
            "readiness": ReadinessFacts(
                limits=limit_values,
                limits_problem=limit_problem,
                rivals=(*found, *scheduled),
                rivals_problem=problem,
            ),
        }
    )


def _question(sign: Sign, facts: NodeFacts) -> Op:
    site = facts.web.file.folder
    place = sign.place.format(drive=facts.system_drive, data=facts.program_data, site=site)
    return ops.service(place) if sign.is_service else ops.stat(place)


def _seen(reply: Reply) -> bool:
    """Whether a service exists and is not disabled, or a file or folder exists."""
    if not reply.ok:
        return False
    return bool(reply["exists"]) if reply.op.name == "stat" else reply["start_type"] != "disabled"


def _limits_question(drive: str) -> Op:
    """WinRM's own tool; it also prints what a policy sets, and marks it."""
    system = rf"{drive}\Windows\System32"
    return ops.run(rf"{system}\cscript.exe", ["//nologo", rf"{system}\winrm.vbs", "get", "winrm/config"], deadline=30)


def _limits(reply: Reply) -> tuple[dict[str, str], str]:
    if not reply.ok:
        return {}, reply.message
    if reply["exit"] != 0:
        return {}, f"winrm get winrm/config ended with {reply['exit']}"
    pairs = [line.partition(" = ") for line in str(reply["stdout"]).splitlines()]
    values = {name.strip(): value.split("[", 1)[0].strip() for name, is_pair, value in pairs if is_pair}
    known = {name: value for name, value in values.items() if name in WINRM_LIMITS}
    return known, "" if known else "winrm get winrm/config printed no known setting"


def _scheduled(work: Work, facts: NodeFacts, tasks: Reply) -> tuple[list[str], str]:
    """Scheduled tasks outside the folders of Windows that mention a folder we write to. Only their names are kept."""
    if not tasks.ok and tasks.error == "not_found":
        return [], ""
    if not tasks.ok:
        return [], f"scheduled tasks could not be listed: {tasks.message}"
    names = [entry["name"] for entry in tasks["entries"] if entry["kind"] == "file"]
    if not names:
        return [], ""
    folder = facts.system_drive + _TASKS
    questions = [ops.read(f"{folder}\\{name}", limit=_TASK_BYTES) for name in names[:_TASK_FILES]]
    replies = work.session.ask(questions, deadline=work.deadline, keep_going=True, cancelled=work.cancelled)
    read = {name: ops.data_of(reply) for name, reply in zip(names, replies, strict=False) if reply.ok}
    folders = (facts.web.file.folder, facts.service_folder)
    return list(_mentioning(read, folders)), _unread(len(names), len(read))


def _mentioning(tasks: Mapping[str, bytes], folders: tuple[str, ...]) -> list[str]:
    return [f"the scheduled task {name}" for name, data in tasks.items() if mentioned(data, folders)]


def _unread(there: int, read: int) -> str:
    return f"{there - read} of {there} scheduled tasks could not be read" if read < there else ""
