"""`esync report`: the report of a run, its bundle, and the check of a bundle."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.cli.console import (
    RunId,
    notify,
    print_json,
    print_lines,
    text_width,
)
from pipelines.cli.output import BundleFile, OutputFile
from pipelines.cli.results import find_run, pretty, report_of
from pipelines.local.reading import engine_only
from pipelines.report.rows import Report
from workers.errors import Misused
from workers.host.private import write_private
from workers.settings import load_settings

__all__ = ["FORMS", "Form", "form_of", "print_report", "report", "require_one_result"]

Form = Literal["text", "json", "html", "xml"]


def report(
    run: RunId = "last",
    *,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="The format. Default: by the ending of the output file, otherwise text."),
    ] = None,
    output: OutputFile = None,
    bundle: BundleFile = None,
    to_check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Check a bundle, offline. Exit 0: valid; 5: not.", readable=False),
    ] = None,
) -> None:
    """Write the report of a run, or everything about the run as a bundle; or check a bundle."""
    require_one_result(form, {"--output": output, "--bundle": bundle, "--check": to_check})
    if to_check is not None:
        _check_bundle(to_check, as_json=form == "json")
        return
    chosen = form or form_of(output)
    with engine_only(load_settings()) as engine:
        record = find_run(engine, run)
        if bundle is not None:
            from pipelines.audit.bundle import write_bundle  # noqa: PLC0415 - most reports are no bundles

            manifest = write_bundle(engine, record.id, bundle)
            notify(f"bundle: {bundle}, {len(manifest.members) + 1} members")
            notify(f"head of the hash chain: {manifest.chain_head}; note it elsewhere to recognise this bundle later")
            return
        found = report_of(engine, record)
    if output is None:
        print_report(found, chosen)
        return
    write_private(output, FORMS[chosen](found))
    notify(f"report: {output}")


def require_one_result(form: Form | None, files: Mapping[str, Path | None]) -> None:
    """Passes if one thing at most is asked for: what else is asked for would not be done.

    Raises:
        Misused: two are, or a format of a bundle.
    """
    given = [name for name, file in files.items() if file is not None]
    given += ["--format"] if form and "--bundle" in given else []
    if len(given) > 1:
        raise Misused(
            f"{' and '.join(given)} cannot be combined; nothing was written", remedy="leave all but one of them out"
        )


def print_report(report: Report, form: Form) -> None:
    """Prints a report to stdout; as text its lines are those of the terminal."""
    if form != "text":
        typer.echo(FORMS[form](report), nl=False)
        return
    from pipelines.report.text import to_text  # noqa: PLC0415 - a report has one form

    print_lines(to_text(report, text_width()).splitlines())


def _text(report: Report) -> str:
    from pipelines.report.text import to_text  # noqa: PLC0415 - a report has one form

    return to_text(report)


def _html(report: Report) -> str:
    from pipelines.report.html import to_html  # noqa: PLC0415 - see above

    return to_html(report)


def _junit(report: Report) -> str:
    from pipelines.report.junit import to_junit  # noqa: PLC0415 - see above

    return to_junit(report)


FORMS: Mapping[Form, Callable[[Report], str]] = {"text": _text, "json": pretty, "html": _html, "xml": _junit}
_ENDINGS: Mapping[str, Form] = {
    "": "text",
    ".txt": "text",
    ".log": "text",
    ".json": "json",
    ".html": "html",
    ".htm": "html",
    ".xml": "xml",
}


def form_of(output: Path | None) -> Form:
    """The format that the ending of a file's name means.

    Raises:
        InputRefused: it means none.
    """
    ending = output.suffix.lower() if output else ""
    if ending not in _ENDINGS:
        raise Misused(
            f"{output} has the ending {ending}, and no report is written in that format",
            remedy="name a file that ends in .html, .json, .txt or .xml (JUnit); or choose a format with --format",
        )
    return _ENDINGS[ending]


def _check_bundle(path: Path, *, as_json: bool) -> None:
    """Checks a bundle and prints what was checked. Needs no broker.

    Raises:
        InputRefused: the file cannot be read.
        BundleRefused: a check failed.
    """
    from pipelines.audit.check import check_file  # noqa: PLC0415 - replays the decisions of a run

    checked = check_file(path)
    if as_json:
        print_json(checked.model_dump(mode="json"))
        return
    print_lines([f"run {checked.run} of {checked.cluster}: {checked.verdict}"])
    for sentence in checked.checked:
        print_lines([f"  ok: {sentence}"])
    typer.echo(f"{path} is valid: {len(checked.checked)} of {len(checked.checked)} checks passed")
