"""`esync export`: a cluster file in the form of another program. Thin."""

from typing import Annotated

import typer

from pipelines.cli.console import ClusterFile, notify
from pipelines.cluster_file.export import ansible_inventory
from pipelines.cluster_file.loader import load_cluster
from pipelines.cluster_file.pins import PINS_FILE
from pipelines.usecases.trust import fingerprints_of, pinned_in, pins_beside
from tasks.ektron.wording import named
from workers.errors import Misused

__all__ = ["export"]


def export(
    file: ClusterFile,
    *,
    ansible: Annotated[bool, typer.Option("--ansible", help="As an Ansible inventory (YAML).")] = False,
) -> None:
    """Print a cluster in the form of another program. Passwords stay references: Ansible looks them up."""
    if not ansible:
        raise Misused("no form is named", remedy="write: esync export --ansible FILE")
    cluster = load_cluster(file)
    fingerprints, shown = pinned_in(cluster), fingerprints_of(pins_beside(file))
    pinned = {name for name, pin in fingerprints.items() if shown.get(name) == pin}
    typer.echo(ansible_inventory(cluster, str((file.parent / PINS_FILE).resolve()), pinned), nl=False)
    if unknown := [name for name in fingerprints if name not in pinned]:
        notify(
            f"Ansible has no variable for a fingerprint, so it does not trust {named(unknown)}: "
            f"`esync trust {file} --pem` writes the certificates, then export again"
        )
