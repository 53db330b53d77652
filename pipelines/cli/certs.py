"""`esync certs`: inspects certificate files, generates a family, renews the family of a cluster."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.command import Verb
from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    CommandExit,
    Reason,
    Verbose,
    Yes,
    confirm,
    describe,
    notify,
    print_error,
    print_json,
    print_lines,
    require_consent,
    stderr_console,
)
from pipelines.cli.output import NODE, ReportFolder, write_new
from pipelines.cli.partners import export
from pipelines.cluster_file.loader import load_cluster
from pipelines.report.knowledge_text import inspected_lines, pair_lines
from pipelines.report.layout import printable
from tasks.ektron.certificates.family import Family, family_names, node_of
from tasks.ektron.certificates.inspect import Inspected, inspect
from tasks.ektron.certificates.making import generate_family
from tasks.ektron.refusals import CertificateRefused
from workers.errors import InputRefused, Misused
from workers.host.reading import content_of
from workers.records import now
from workers.secrets.references import References

__all__ = ["certs"]

certs = typer.Typer(
    help="Inspect certificate files; generate a family; renew that of a cluster.",
    no_args_is_help=True,
    add_completion=False,  # `esync` has it
)

_LARGEST = 1 << 20
_SUFFIXES = {".pfx", ".pvk", ".cer"}


@certs.command("inspect", cls=Verb)
def inspect_files(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Certificate files, or folders that contain some.", readable=False),
    ],
    *,
    password: Annotated[
        list[str] | None,
        typer.Option("--password", metavar="REF", help="env:NAME or file:PATH; tried after the empty password."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what certificate files contain and which belong together. Exit 1: one of them cannot be read."""
    # Any file may be read: the operator names it in this command, and its content stays on this machine.
    named = References(folders=(Path("/"),))
    passwords = tuple(named.reveal(reference, str(Path.cwd())).reveal() for reference in password or ())
    contents = {str(path): content_of(path, _LARGEST, "certificate file") for path in _expanded(files)}
    seen: dict[str, Inspected] = {}
    refused: dict[str, CertificateRefused] = {}
    for name, content in contents.items():
        try:
            seen[name] = inspect(Path(name).name, content, now(), passwords=passwords)
        except CertificateRefused as refusal:
            refused[name] = refusal
    families = _families(contents, passwords)
    if as_json:
        _print_json(seen, refused, families)
    else:
        _print_text(seen, refused, families)
    raise CommandExit(1 if refused else 0)


@certs.command(cls=Verb)
def generate(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The origin's NetBIOS name.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the six files.")],
    years: Annotated[int, typer.Option(min=1, max=50, help="How long the certificates are valid.")] = 10,
    bits: Annotated[int, typer.Option(min=2048, max=8192, help="Size of the keys in bits.")] = 2048,
) -> None:
    """Generate a family of six files without the Security Configurator. Overwrites nothing; file mode is 0600."""
    if re.fullmatch(NODE, node) is None:
        raise Misused(f"{node[:64]!r} is not a NetBIOS name", remedy="use 1 to 15 letters, digits, '-' and '_'")
    family = generate_family(node, bits=bits, years=years)
    for path in write_new(out, {name: family.blobs[kind] for name, kind in family.files_for(node).items()}):
        typer.echo(str(path))
    notify(f"next: copy these six files to the Security Configurator's folder on {node}, then run: esync rollout")
    notify("the .pfx and .pvk files contain private keys without a password: after copying them, delete them here")


@certs.command(cls=Verb)
def renew(  # noqa: PLR0913 - a command's options
    file: ClusterFile,
    *,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make the new family, instead of the Security Configurator.")
    ] = False,
    partners_ready: Annotated[
        bool, typer.Option("--partners-ready", help="The partners trust the new family already.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Replace the certificates of all servers: old and new are trusted side by side until every server has the new.

    Each service is restarted three times, wave by wave. If a renewal stopped in the middle, this continues it.
    """
    from pipelines.cli.follow import follow, workers_for  # noqa: PLC0415 - looking at files needs no run
    from pipelines.cli.results import finish  # noqa: PLC0415 - see above
    from pipelines.report.renewal_text import renewal_lines  # noqa: PLC0415 - see above
    from pipelines.usecases import renewal  # noqa: PLC0415 - see above

    require_consent(yes=yes)
    cluster = load_cluster(file)
    notify(f"renewal of the certificates of cluster {describe(cluster)}")
    with workers_for(renewal.KIND) as services:
        begun = renewal.begun_renewal(services.engine, cluster)
        if begun is not None:
            notify(f"continues run {begun.id}, which stopped: {begun.summary}")
        for line in renewal_lines(
            cluster,
            begun=begun.id if begun else "",
            generate=generate or cluster.policy.generate_certificates,
            partners_ready=partners_ready,
        ):
            notify(line)
        confirm(yes=yes)
        engine = services.engine
        record = renewal.renew(engine, cluster, generate=generate, partners_ready=partners_ready, reason=reason)
        notify(f"run {record.id}")
        shown = follow(services, record, stderr_console(), verbose=verbose)
    finish(shown, report, as_json=as_json)


def _expanded(files: Sequence[Path]) -> list[Path]:
    """Folders replaced by the certificate files in them."""
    found: list[Path] = []
    for path in files:
        try:
            found += sorted(f for f in path.iterdir() if f.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
        except OSError as error:
            raise InputRefused(f"the folder cannot be read: {error.strerror}", file=str(path)) from None
    if not found:
        raise InputRefused(
            f"no .pfx, .pvk or .cer file is in {', '.join(map(str, files))}",
            remedy="name certificate files, or a folder that contains some",
        )
    return found


def _families(contents: dict[str, bytes], passwords: tuple[str, ...]) -> dict[str, str]:
    """Node -> why its files are not a family, empty if they are; only for nodes with all six files."""
    by_name = {Path(name).name.casefold(): content for name, content in contents.items()}
    nodes = {named[0] for name in contents if (named := node_of(Path(name).name))}
    found = {}
    for node in sorted(nodes):
        names = family_names(node)
        if all(name.casefold() in by_name for name in names):
            found[node] = _not_a_family(node, {name: by_name[name.casefold()] for name in names}, passwords)
    return found


def _not_a_family(node: str, files: dict[str, bytes], passwords: tuple[str, ...]) -> str:
    try:
        Family.collect(node, files, passwords=passwords)
    except CertificateRefused as refusal:
        return str(refusal)
    return ""


def _print_json(seen: dict[str, Inspected], refused: dict[str, CertificateRefused], families: dict[str, str]) -> None:
    print_json(
        {
            "files": {name: file.model_dump(mode="json") for name, file in seen.items()},
            "refused": {name: {"message": str(error), "remedy": error.remedy} for name, error in refused.items()},
            "families": {node: {"whole": not why, "why": why} for node, why in families.items()},
        }
    )


def _print_text(seen: dict[str, Inspected], refused: dict[str, CertificateRefused], families: dict[str, str]) -> None:
    for name, file in seen.items():
        print_lines(inspected_lines(name, file))
    print_lines(pair_lines(seen))
    print_lines(f"family of {node}: {why or 'whole'}" for node, why in families.items())
    for name, refusal in refused.items():
        print_error(printable(f"{name}: {refusal}"), refusal.remedy)


certs.command(cls=Verb)(export)
