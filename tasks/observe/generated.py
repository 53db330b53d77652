"""Observes the files that the product generates: sitedb.config, data.config, DbSync.config, EktSyncStatus."""

from collections.abc import Callable, Mapping
from datetime import datetime

from tasks.ektron.config.generated import read_batch_size, read_generated
from tasks.ektron.editions import Layout
from tasks.ektron.facts.generated import GeneratedFacts, GeneratedFile
from tasks.ektron.refusals import Refused
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["generated_facts", "generated_questions"]

Digest = Callable[[str], str]
_SITES = 50  #: entries of one file that are kept; a machine may serve many sites


def generated_questions(layout: Layout, limit: int) -> dict[str, Op]:
    """What is asked of the node, by the name of the question.

    Args:
        layout: where the product is.
        limit: bytes a file may have.
    """
    return {
        "sitedb": ops.read(layout.sitedb_config, limit=limit),
        "data": ops.read(layout.data_config, limit=limit),
        "dbsync": ops.read(layout.dbsync_config, limit=limit),
        "status": ops.list_folder(layout.status_folder),
    }


def generated_facts(layout: Layout, answers: Mapping[str, Reply], digest: Digest) -> GeneratedFacts:
    """The facts in the answers to `generated_questions`.

    Args:
        layout: where the product is.
        answers: by name of the question.
        digest: keyed; connection strings go into it and nowhere else.
    """
    oldest, count = _status_files(answers["status"])
    return GeneratedFacts(
        sitedb=_file(layout, layout.sitedb_config, answers["sitedb"], digest),
        data=_file(layout, layout.data_config, answers["data"], digest),
        batch_size=_batch_size(answers["dbsync"]),
        status_files=count,
        oldest_status=oldest,
    )


def _file(layout: Layout, path: str, reply: Reply, digest: Digest) -> GeneratedFile:
    if not reply.ok:
        absent = reply.error == "not_found"
        return GeneratedFile(path=path, exists=not absent, problem="" if absent else reply.message)
    try:
        sites = read_generated(ops.data_of(reply), digest, layout.staging_folder[:2])
        return GeneratedFile(path=path, exists=True, sites=sites[:_SITES])
    except Refused as refusal:
        return GeneratedFile(path=path, exists=True, problem=str(refusal))


def _batch_size(reply: Reply) -> str | None:
    """None when the file cannot be read: then the default applies, or another rule finds the cause."""
    if not reply.ok:
        return None
    try:
        return read_batch_size(ops.data_of(reply))
    except Refused:
        return None


def _status_files(reply: Reply) -> tuple[datetime | None, int]:
    entries = [entry for entry in reply["entries"] if entry["kind"] == "file"] if reply.ok else []
    return min((ops.time_of(entry["mtime"]) for entry in entries), default=None), len(entries)
