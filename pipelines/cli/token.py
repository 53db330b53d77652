"""`esync token`: who may ask the server for what. Thin."""

from typing import Annotated

import typer

from pipelines.cli.console import AsJson, notify, print_json, print_text, stdout_console
from pipelines.local.reading import engine_only
from pipelines.usecases.origin import user
from pipelines.usecases.tokens import (
    EVERY_CLUSTER,
    Grant,
    Role,
    clusters_of,
    create_token,
    holder,
    lifetime,
    listed_tokens,
    revoke_token,
)
from workers.records import now
from workers.settings import load_settings

__all__ = ["token"]

token = typer.Typer(help="Create, list and revoke tokens for the page and the API.", no_args_is_help=True)


@token.command()
def create(
    *,
    role: Annotated[Role, typer.Option(help="What its holder may do.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The person or program; you, by default.")] = None,
    cluster: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only for this cluster; repeatable. Default: all.")
    ] = None,
    expires: Annotated[str, typer.Option(metavar="TIME", help="How long it counts: 90d, 12h.")] = "90d",
    as_json: AsJson = False,
) -> None:
    """Create a token and print it: once, and nowhere else."""
    grant = Grant(role=role, clusters=clusters_of(cluster or [EVERY_CLUSTER]))
    until = lifetime(expires)
    person = holder(user() if name is None else name)
    with engine_only(load_settings()) as engine:
        made, text = create_token(engine, person, grant, until)
    if as_json:
        print_json({**made.model_dump(mode="json", exclude={"digest"}), "token": text.reveal()})
        return
    where = "all clusters" if EVERY_CLUSTER in made.clusters else ", ".join(made.clusters)
    notify(f"token {made.id} of {made.name}: {made.role} for {where}, until {made.expires:%Y-%m-%d %H:%M} UTC")
    typer.echo(text.reveal())


@token.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List all tokens, the newest first; never their texts."""
    with engine_only(load_settings()) as engine:
        rows = listed_tokens(engine)
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    for row in rows:
        state = "expired" if row.expires < now() else f"until {row.expires:%Y-%m-%d}"
        used = f"used {row.used:%Y-%m-%d %H:%M}" if row.used else "never used"
        where = "all clusters" if EVERY_CLUSTER in row.clusters else ", ".join(row.clusters)
        print_text(stdout_console(), f"{row.id}  {row.role:<8}  {state}  {used}  {row.name}  ({where})")
    if not rows:
        notify("there are no tokens yet")


@token.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `esync token list` shows it.")],
) -> None:
    """Revoke a token. Sessions of the page that were begun with it end."""
    with engine_only(load_settings()) as engine:
        revoke_token(engine, token_id)
    notify(f"token {token_id} opens nothing any more")
