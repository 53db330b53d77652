"""Decisions return what has to be saved; the coordinator saves it."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT
from workers.store.port import RunStore

#: Methods of the store that only read.
READS = {
    "active", "all_kept", "chain", "counts", "document", "documents", "documents_of",
    "events", "flags", "has_servers", "kept", "keyed",
    "leases", "look", "outcome", "outcomes", "progress", "remembered", "run", "runs",
}  # fmt: skip
#: Functions outside the store that write to it.
WRITERS = {
    "keep_facts", "keep_family", "keep_right", "seal", "request_cancel", "request_pause", "request_resume",
    "acknowledge_resume",
}  # fmt: skip

FILES = sorted((ROOT / "pipelines/run").glob("*.py"))


def written() -> set[str]:
    """The names of all functions that write to the store."""
    methods = {name for name, _ in inspect.getmembers(RunStore, inspect.isfunction) if not name.startswith("_")}
    assert methods > READS
    return (methods - READS) | WRITERS


def calls(source: str) -> Iterator[str]:
    """The last name of everything that is called."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func
            yield name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_decision_never_writes_to_the_store(file: Path) -> None:
    """No file of `pipelines/run` calls a method of the store that writes, or a function that does."""
    assert set(calls(file.read_text("utf-8"))) & written() == set()


def test_the_methods_that_write_are_found() -> None:
    """The test above would find each of them."""
    assert {
        "create",
        "save",
        "record",
        "put",
        "flag",
        "note",
        "begin",
        "elect",
        "finish",
        "release",
        "lock_servers",
    } <= written()
    assert {"put", "x"} == set(calls("x(a.b.put(1))"))
