"""`esync certs export`: what a server outside a cluster needs to sync with it. Contacts no server."""

import re
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.console import ClusterFile, notify
from pipelines.cli.output import write_new
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.reading import engine_only
from pipelines.usecases.partners import family_in_use, files_for_partner
from pipelines.usecases.renewal import family_to_come
from tasks.cluster import PARTNER
from workers.errors import Misused
from workers.settings import load_settings

__all__ = ["export"]


def export(
    file: ClusterFile,
    *,
    partner: Annotated[str, typer.Option("--for", metavar="NAME", help="The partner, as `partners` names it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for its files.")],
) -> None:
    """Write what a server outside the cluster needs to sync with it: six files and its keys. File mode is 0600."""
    cluster = load_cluster(file)
    if re.fullmatch(PARTNER, partner) is None:
        raise Misused(
            f"{partner[:64]!r} cannot be the name of a partner",
            remedy="give it as its certificate files have it, such as WEB7 or web7.corp.example",
        )
    with engine_only(load_settings()) as engine:
        to_come = family_to_come(engine, cluster)
        family, record = to_come or family_in_use(engine, cluster)
    files = files_for_partner(cluster, partner, family, renews=to_come is not None)
    for path in write_new(out, files):
        typer.echo(str(path))
    what = "which the renewal in run {0} brings" if to_come else "that run {0} handed out"
    notify(f"these are the certificates {what.format(record.id)}; README.txt says where they belong")
    notify("the .pfx and .pvk files contain private keys without a password: after copying them, delete them here")
    if partner.upper() not in {name.upper() for name in cluster.partners}:
        notify(f"add {partner} to `partners` in {file}: then every rollout keeps its key and files on all servers")
