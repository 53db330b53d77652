"""The members of a bundle and its manifest: their names, shapes and digests."""

import hashlib
import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from typing import Literal

from pydantic import TypeAdapter

from pipelines.report.rows import Report
from pipelines.run.evidence import Evidence
from workers.records import DocumentKind, Record, RunRecord, StepOutcome
from workers.store.chain import Chain, digest_of

__all__ = [
    "EVENTS",
    "MANIFEST",
    "OUTCOMES",
    "REPORT",
    "REPORT_PAGE",
    "RUN",
    "BundledRun",
    "Manifest",
    "Member",
    "evidence_in",
    "manifest_of",
    "member_name",
    "outcomes_adapter",
    "pretty",
    "report_members",
    "versions",
]

MANIFEST, RUN, OUTCOMES, EVENTS = "manifest.json", "run.json", "outcomes.json", "events.jsonl"
REPORT, REPORT_PAGE = "report.json", "report.html"

#: Packages whose versions determine what a run does and how its bundle is written.
_LIBRARIES = ("esync-rollout", "celery", "cryptography", "jinja2", "lxml", "pydantic", "pywinrm", "redis")
_ALONE: Mapping[str, str] = {
    DocumentKind.PLAN: "plan.json",
    DocumentKind.FAMILY: "family.json",
    DocumentKind.PREVIOUS: "previous.json",
    DocumentKind.ATTESTED: "attested.json",
    DocumentKind.DOWN: "down.json",
}  #: kinds with one document per run

outcomes_adapter: TypeAdapter[tuple[StepOutcome, ...]] = TypeAdapter(tuple[StepOutcome, ...])


class BundledRun(Record):
    """`run.json`: the run as it ended, the flags that were set, and where its history begins and ends."""

    record: RunRecord
    flags: dict[str, str]
    chain: Chain


class Member(Record):
    """Digest and size of one member."""

    sha256: str
    size: int


class Manifest(Record):
    """`manifest.json`: the content of the bundle. `digest` covers all other fields.

    `version` is that of the layout and of the sentences in it. Version 1 had other sentences for the same results.
    """

    version: Literal[1, 2] = 1  #: the default stays 1: the digest of version 1 does not cover it
    run: str
    cluster: str
    verdict: str
    chain_head: str
    versions: dict[str, str]
    members: dict[str, Member]
    digest: str = ""

    def sealed(self) -> "Manifest":
        """With the digest of all other fields."""
        return self.model_copy(update={"digest": digest_of(self.model_copy(update={"digest": ""}))})

    def to_bytes(self) -> bytes:
        """The manifest as it is written."""
        return pretty(self)


def manifest_of(run: BundledRun, members: Mapping[str, bytes]) -> Manifest:
    """The manifest of these members."""
    digests = {name: Member(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in members.items()}
    return Manifest(
        version=2,
        run=run.record.id,
        cluster=run.record.cluster,
        verdict=run.record.verdict or "",
        chain_head=run.chain.head,
        versions=versions(),
        members=dict(sorted(digests.items())),
    ).sealed()


def versions() -> dict[str, str]:
    """The versions of this process."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _LIBRARIES}}


@cache
def _version(library: str) -> str:
    return version(library)  # reads the headers of a file, in half of the time that a small bundle takes


def report_members(report: Report, page: str) -> dict[str, bytes]:
    """The report in both formats; `page` is its HTML. They follow from the other members."""
    return {REPORT: pretty(report), REPORT_PAGE: page.encode()}


def evidence_in(members: Mapping[str, bytes]) -> Evidence:
    """The documents that the decisions were made from, as the store had them.

    Raises:
        UnicodeDecodeError: one of them is not text.
    """
    found: Evidence = {}
    for kind, name in _ALONE.items():
        if name in members:
            found[kind] = {kind: members[name].decode()}
    for name, data in members.items():
        match = re.fullmatch(r"(?:facts/([a-z]+)|findings)/([A-Za-z0-9_-]+)\.json", name)
        if match:
            found.setdefault(match[1] or DocumentKind.FINDINGS, {})[match[2]] = data.decode()
    return found


def member_name(kind: str, name: str) -> str:
    """The member that has this document."""
    folder = DocumentKind.FINDINGS if kind == DocumentKind.FINDINGS else f"facts/{kind}"
    return _ALONE.get(kind) or f"{folder}/{name}.json"


def pretty(record: Record) -> bytes:
    """A record as it is written: indented JSON."""
    return record.model_dump_json(indent=2).encode() + b"\n"
