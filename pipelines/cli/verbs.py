"""All verbs of `esync`, as data, and the group that loads the module of a verb when it is called.

`esync --help` shows the sentences that stand here: to load all modules for them takes most of a second of CPU time.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipelines.cli.command import Verb

__all__ = ["VERBS", "Place", "VerbGroup"]


class Place(NamedTuple):
    """Where a verb is: a module of `pipelines.cli`, which has a function or a group of that name; and its help."""

    module: str
    help: str  #: the first paragraph of the function's docstring


#: In the groups and the order of `esync --help`.
GROUPS: Mapping[str, Mapping[str, Place]] = {
    "Describe a cluster": {
        "init": Place(
            "init",
            "Write a commented cluster file: from answers, from an Ansible inventory, or from what one server knows.",
        ),
        "export": Place(
            "export",
            "Print a cluster in the form of another program. Passwords stay references: Ansible looks them up.",
        ),
        "trust": Place(
            "trust",
            "Show the certificates of all listeners, and pin those that are new. A changed one is refused. "
            "Does not log on.",
        ),
        "check": Place("check", "Read cluster files and list every mistake in them. Contacts no server."),
    },
    "Look at servers": {
        "doctor": Place(
            "doctor",
            "Check whether a rollout can start: logon, limits, prerequisites, competing tools, certificates. "
            "Changes nothing.",
        ),
        "plan": Place(
            "start",
            "Show what a rollout would change on each node. Exit 0: nothing; 2: changes; 4, 6: not all nodes "
            "were checked.",
        ),
        "verify": Place("verify", "Check every invariant of a cluster on its nodes. Changes nothing."),
        "explain": Place(
            "explain", "Explain why a node is not joined: the first cause. Exit 0: joined; 5: not joined; 6: unknown."
        ),
        "propagate": Place(
            "propagate",
            "Show which servers receive a changed file by a sync, and where to start the sync. Contacts no server.",
        ),
        "attest": Place(
            "attest",
            "Answer a question that no program can answer, or list the questions about a cluster. Contacts no server.",
        ),
    },
    "Change servers": {
        "rollout": Place(
            "start",
            "Set eSync up on every node and prove it: show the plan, ask, apply. A saved plan is applied exactly.",
        ),
        "retry": Place(
            "start",
            "Finish the unfinished nodes of a run, and only those, with the same certificates. By default all "
            "three kinds.",
        ),
        "rollback": Place(
            "undo",
            "Undo a run: restore bytes, names and service state from before it. Proves the result by comparing "
            "every file.",
        ),
        "cleanup": Place(
            "undo", "Remove expired backups and leftover temporary files from the nodes, and prove that they are gone."
        ),
        "retire": Place(
            "retire",
            "Take a node out of the cluster: remove its certificates, keys and flags, restart its service, and "
            "prove it.",
        ),
        "certs": Place("certs", "Inspect certificate files; generate a family; renew that of a cluster."),
        "sync": Place("sync", "Look at a sync, start it, refresh a pool, or prove that a sync reaches every server."),
    },
    "Follow and steer runs": {
        "runs": Place("runs", "List the newest runs, newest first."),
        "status": Place("show", "Show the state of a run; of several a line each, failures first."),
        "watch": Place(
            "show",
            "Follow runs to their end; exit by the worst verdict. If their worker stopped with its command, start one.",
        ),
        "report": Place(
            "report", "Write the report of a run, or everything about the run as a bundle; or check a bundle."
        ),
        "pause": Place("steer", "Start no further step of a run. Running steps finish."),
        "resume": Place("steer", "Continue a paused run."),
        "promote": Place("steer", "Let a held run begin its next wave (policy.hold)."),
        "approve": Place("steer", "Approve the plan of a run that another person requested (policy.approval)."),
        "cancel": Place("steer", "Stop a run at the next safe point. Nodes finish their current step."),
    },
    "Services": {
        "up": Place(
            "local",
            "Run workers, the page and Flower on this machine until Ctrl-C: with ESYNC_BROKER_URL, or an own broker.",
        ),
        "serve": Place(
            "serve", "Serve the page and the HTTP API until Ctrl-C. Without a broker in the environment use `esync up`."
        ),
        "token": Place("token", "Create, list and revoke tokens for the page and the API."),
    },
    "Try it without servers": {
        "demo": Place(
            "local",
            "Roll eSync out on four simulated servers, from untouched to joined. Everything but the servers is real.",
        ),
        "lab": Place(
            "local", "Run simulated Windows servers until Ctrl-C; or break and heal servers of a running lab."
        ),
    },
}

VERBS: Mapping[str, Place] = {name: place for verbs in GROUPS.values() for name, place in verbs.items()}


class VerbGroup(TyperGroup):
    """All verbs by name and help; the one that is called is loaded."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - those of the library's class
        super().__init__(**attributes)
        for name, place in VERBS.items():
            self.commands[name] = TyperCommand(name, help=place.help)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - private classes of the library
        """Writes the verbs in their groups."""
        del ctx
        for group, verbs in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, place.help) for name, place in verbs.items()], col_max=10)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - private classes of the library
        """The verb that the arguments name, loaded, and the arguments after it.

        Raises:
            UsageError: there is no such verb.
            InputRefused: ESYNC_SERVER is set, and the verb does not work against a server.
        """
        name, command, rest = super().resolve_command(ctx, args)
        _refuse_elsewhere(str(name))
        _refuse_elsewhere(" ".join([str(name), *rest[:1]]))
        return name, command and _loaded(str(command.name)), rest


#: What asks the server with ESYNC_SERVER, and its module.
REMOTE: Mapping[str, str] = {
    **dict.fromkeys(("rollout", "verify", "plan", "doctor", "cleanup", "retry", "rollback"), "remote"),
    **dict.fromkeys(("status", "runs", "watch", "report"), "remote"),
    **dict.fromkeys(("pause", "resume", "promote", "approve", "cancel"), "remote"),
    **dict.fromkeys(("attest", "explain"), "remote_answers"),
}
_SERVICES = "it runs services on this machine, beside those of the server"
#: What needs the broker itself, and why a server does not do it for others.
ONLY_HERE: Mapping[str, str] = {
    "certs export": "it writes private keys, and a server gives none out",
    "certs renew": "a person makes the new family on the origin's desktop and brings it to the partners while it runs",
    "retire": "--host may name any address, and the password of the cluster's account would be sent there",
    "serve": _SERVICES,
    "sync": "a person at the terminal confirms what a sync overwrites, starts it on the server, and repairs search",
    "token": "it needs the run store; with a token of an administrator: POST /api/v1/tokens",
    "up": _SERVICES,
}


def _refuse_elsewhere(name: str) -> None:
    """Passes unless the verb needs the broker, and ESYNC_SERVER is set: it would look into another run store.

    Raises:
        InputRefused: it is refused.
    """
    if name not in ONLY_HERE or not os.environ.get("ESYNC_SERVER"):
        return
    from workers.errors import InputRefused  # noqa: PLC0415 - only to refuse

    raise InputRefused(
        f"esync {name} does not work against a server, and ESYNC_SERVER is set: {ONLY_HERE[name]}",
        remedy=f"log on where the broker is, unset ESYNC_SERVER there, then run esync {name}",
    )


def _module_of(name: str) -> str:
    """The module of a verb."""
    return REMOTE.get(name, VERBS[name].module) if os.environ.get("ESYNC_SERVER") else VERBS[name].module


def _loaded(name: str) -> Any:  # noqa: ANN401 - a private class of the library
    found = getattr(import_module(f"pipelines.cli.{_module_of(name)}"), name)
    if isinstance(found, typer.Typer):
        group = get_command(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name, cls=Verb)(found)
    return get_command(alone)
