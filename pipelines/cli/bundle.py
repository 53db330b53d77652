"""What `esync report` does with bundles: write one, check one."""

from pathlib import Path

import typer

from pipelines.audit.bundle import write_bundle
from pipelines.audit.check import check_file
from pipelines.cli.console import data, people_console, run_named
from pipelines.cli.follow import say
from pipelines.local.services import engine_only
from pipelines.report.styles import printable
from workers.settings import load_settings

__all__ = ["check_bundle", "save_bundle"]


def save_bundle(run: str, path: Path) -> None:
    """Writes a run's bundle.

    Raises:
        InputRefused: the run goes on, or the file cannot be written.
        RunUnknown: there is no such run.
    """
    with engine_only(load_settings()) as engine:
        manifest = write_bundle(engine, run_named(engine, run).id, path)
    say(people_console(), f"bundle: {path}, {len(manifest.members) + 1} members")
    say(people_console(), f"head of the chain: {manifest.chain_head}; kept elsewhere, it shows that this is the one")


def check_bundle(path: Path, *, as_json: bool) -> None:
    """Checks a bundle and says what was checked. Needs no broker.

    Raises:
        InputRefused: the file cannot be read.
        BundleRefused: something does not hold.
    """
    found = check_file(path)
    if as_json:
        data(found.model_dump(mode="json"))
        return
    typer.echo(printable(f"run {found.run} of {found.cluster}: {found.verdict}"))
    for sentence in found.checked:
        typer.echo(printable(f"  holds: {sentence}"))
    typer.echo(f"{path} holds in {len(found.checked)} of {len(found.checked)} checks")
