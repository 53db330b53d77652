"""`esync init`: a new cluster file."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from pipelines.cli.console import CommandExit, can_ask, notify
from pipelines.cluster_file.ansible import draft_of
from pipelines.cluster_file.init import PASSWORD, SCHEMA_FILE, Draft, DraftNode, Value, text_of
from pipelines.cluster_file.inventory import read_inventory
from pipelines.cluster_file.loader import ClusterRefused, read_cluster
from pipelines.cluster_file.mistakes import allowed_values
from pipelines.report.schemas import CLUSTER, schema
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from workers.errors import InputRefused, Misused
from workers.host.private import write_private
from workers.host.reading import folder_of
from workers.records import Endpoint, Transport
from workers.secrets.references import References
from workers.settings import Secret

__all__ = ["init"]

_FIELDS = ("name", "host", "role", "pool")  #: of --node, in this order
#: What is asked for on a terminal: the field of the draft, and the question.
_QUESTIONS = (
    ("name", "Name of the cluster, such as shop"),
    ("edition", "CMS version (major.minor, such as 9.1)"),
    ("site_path", r"Folder of the site, such as C:\inetpub\wwwroot\site"),
    ("origin", "Name of the server on which the certificates were made"),
)

NewFile = Annotated[Path, typer.Argument(metavar="FILE", help="The cluster file to write.", show_default=False)]
Text = Annotated[str, typer.Option(metavar="TEXT")]


def init(  # noqa: PLR0913 - a command's options: each answer is one
    file: NewFile,
    *,
    server: Annotated[str, typer.Option("--from", metavar="HOST", help="Ask this server what it knows.")] = "",
    inventory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read this Ansible inventory (INI or YAML).", readable=False)
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the cluster.")] = "",
    edition: Annotated[str, typer.Option(metavar="VERSION", help="CMS version, such as 8.5.")] = "",
    origin: Annotated[str, typer.Option(metavar="NODE", help="The server whose certificates all others get.")] = "",
    site: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the site on the servers.")] = "",
    node: Annotated[
        list[str] | None, typer.Option(metavar="NAME,HOST,ROLE,POOL", help="One server; repeatable.")
    ] = None,
    partner: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A server outside the cluster; repeatable.")
    ] = None,
    user: Annotated[str, typer.Option(metavar="ACCOUNT", help=r"The account, such as DOMAIN\name.")] = "",
    secret: Annotated[str, typer.Option(metavar="REF", help="Its password: env:NAME or file:PATH.")] = "",
    transport: Annotated[Transport | None, typer.Option(help="How to log on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The port of WinRM.")] = None,
    scheme: Annotated[Literal["https", "http"] | None, typer.Option(help="http: with encrypted messages.")] = None,
    ca_file: Annotated[str, typer.Option(metavar="FILE", help="PEM file that certificates are verified with.")] = "",
    fingerprint: Annotated[
        str, typer.Option(metavar="HEX", help="With --from: SHA-256 of that server's certificate, in place of a file.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented cluster file: from answers, from an Ansible inventory, or from what one server knows.

    What is not known becomes a line with FILL-IN, which `esync check` names. On a terminal, questions are asked
    instead. Passwords are never written.
    """
    _refuse(file if not force else None, server, inventory)
    given = {"transport": transport, "scheme": scheme, "port": port, "user": user, "secret": secret, "ca_file": ca_file}
    connection: dict[str, Value] = {key: value for key, value in given.items() if value}
    if server:
        draft = _asked_of(server, connection, fingerprint, file)
    elif inventory:
        draft = draft_of(read_inventory(inventory), source=f"from {inventory}", name=inventory.stem)
    else:
        draft = Draft()
    answers = {"name": name, "edition": edition, "origin": origin, "site_path": site}
    known: dict[str, object] = {key: value for key, value in answers.items() if value}
    known |= {"nodes": tuple(map(_node, node))} if node else {}
    known |= {"partners": tuple(partner)} if partner else {}
    known["connection"] = {**draft.connection, **connection}
    draft = draft.model_copy(update=known)
    _write(file, _completed(draft) if can_ask() else draft)


def _refuse(new: Path | None, server: str, inventory: Path | None) -> None:
    """Refuses to replace a file, and two sources at once."""
    if new is not None and new.exists():
        raise InputRefused("the file exists already; nothing was written", remedy="add --force", file=str(new))
    if server and inventory:
        raise Misused("--from and --inventory exclude each other", remedy="leave one of them out")


def _node(text: str) -> DraftNode:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > len(_FIELDS) or not parts[0]:
        raise Misused(
            f"--node {text[:60]!r} is not NAME,HOST,ROLE,POOL",
            remedy="write, for example: --node S1,s1.net,staging,web",
        )
    return DraftNode.model_validate(dict(zip(_FIELDS, parts, strict=False)))


def _asked_of(server: str, connection: dict[str, Value], fingerprint: str, file: Path) -> Draft:
    """Logs on to a server and reads what it knows of its cluster.

    Raises:
        Misused: no account is named, and there is no terminal to ask on; or an option has a wrong value.
    """
    from pipelines.usecases.first_contact import draft_from  # noqa: PLC0415 - WinRM doubles the start of every command

    if "user" not in connection:
        connection["user"] = _answer(r"Account for the logon, such as DOMAIN\name") if can_ask() else ""
    if not connection["user"]:
        raise Misused("no account is named for the logon", remedy=r"add --user 'DOMAIN\name'")
    own: dict[str, Value] = {"fingerprint": fingerprint} if fingerprint else {}
    notify(f"asking {server} ...")
    folder = folder_of(file)
    endpoint = _endpoint(server, {"secret": PASSWORD, **connection, **own}, folder)
    return draft_from(endpoint, _password(endpoint.secret, folder), connection, own)


def _endpoint(server: str, connection: Mapping[str, Value], folder: Path) -> Endpoint:
    """Where to log on, as a cluster file with this connection would have it.

    Raises:
        Misused: an option has a wrong value.
    """
    node = {"name": "FIRST", "host": server, "role": "staging", "pool": "first"}
    about = {"name": "first", "edition": "9.0", "origin": "FIRST", "site": {"path": "C:\\inetpub"}}
    if "ca_file" in connection:
        connection = {**connection, "ca_file": str(folder / str(connection["ca_file"]))}
    try:
        cluster = Cluster.model_validate({**about, "connection": connection, "nodes": [node]})
    except ValidationError as error:
        path = tuple(key for key in error.errors()[0]["loc"] if key not in {"nodes", 0})
        raise Misused(
            f"--{str(path[-1]).replace('_', '-') if path[-1] != 'host' else 'from'} has a value that is not allowed",
            remedy=f"allowed: {allowed_values(path if path[0] == 'connection' else ('nodes', 0, path[-1]))}",
        ) from None
    return cluster.endpoint("FIRST").model_copy(update={"node": server})


def _password(reference: str, folder: Path) -> Secret:
    """What the reference names; asked for on a terminal where the variable for it is not set."""
    if reference == PASSWORD and PASSWORD.partition(":")[2] not in os.environ and can_ask():
        return Secret(typer.prompt("Password", hide_input=True, err=True))
    return References(folders=(Path.cwd(),)).reveal(reference, str(folder))


def _answer(question: str) -> str:
    try:
        answer: str = typer.prompt(question, default="", show_default=False, err=True)
    except typer.Abort:
        notify("nothing was written")
        raise CommandExit(130) from None
    return answer.strip()


def _completed(draft: Draft) -> Draft:
    """Asks for what is missing. An empty answer leaves it open."""
    notify("an empty answer leaves a line to fill in later")
    answers: dict[str, object] = {}
    for field, question in _QUESTIONS:
        if not getattr(draft, field):
            answers[field] = _answer(question)
    if "user" not in draft.connection:
        answers["connection"] = {**draft.connection, "user": _answer(r"Account for the logon, such as DOMAIN\name")}
    if not draft.nodes:
        answers["nodes"] = tuple(_asked_nodes())
    return draft.model_copy(update={key: value for key, value in answers.items() if value})


def _asked_nodes() -> Iterator[DraftNode]:
    while name := _answer("Name of a server, such as S1 (empty: no more)"):
        host = _answer(f"Host name or address of {name}")
        yield DraftNode(name=name, host=host, role=_answer("Role: staging or production"), pool=_answer("Pool"))


def _write(file: Path, draft: Draft) -> None:
    """Writes the file and, beside it, the schema that its first line names; says what is still open."""
    text = text_of(draft)
    write_private(file, text)
    beside = file.parent / SCHEMA_FILE
    if not beside.exists():
        write_private(beside, json.dumps(schema(CLUSTER), indent=2) + "\n")
    notify(f"cluster file: {file}")
    try:
        read_cluster(text.encode(), file=str(file), folder=folder_of(file))
    except ClusterRefused as refused:
        notify(f"{counted(len(refused.mistakes), 'line')} to complete:", "magenta")
        for mistake in refused.mistakes:
            notify(f"  {mistake}")
        notify(f"then: esync check {file}")
        return
    notify(f"next: esync check {file}; esync doctor {file}")
