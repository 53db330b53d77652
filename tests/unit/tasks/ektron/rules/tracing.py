"""Which facts a rule reads, found by watching it: the path of each fact that it asks for, such as `web.file.exists`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from types import NoneType
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Fact
from tasks.ektron.rules.findings import Invariant

__all__ = ["LEAVES", "inner_kind", "reads_of"]

_EVERY_RULE = {"nodes", "origin", "seen", "reasons"}  #: of a cluster; they decide nothing by themselves
_FROM_FILE = {f"cluster.{field.name}" for field in fields(ClusterFacts) if field.name not in _EVERY_RULE}


def inner_kind(annotation: object) -> type[BaseModel] | None:
    """The kind of facts in an annotation, such as `tuple[BinaryFacts, ...]` or `dict[str, Spread]`; None if none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments: Iterable[object] = getattr(annotation, "__args__", ())
    return next((found for argument in arguments if (found := inner_kind(argument)) is not None), None)


def _leaves(kind: type[BaseModel], path: str) -> Iterator[tuple[str, bool]]:
    for name, field in kind.model_fields.items():
        inner = inner_kind(field.annotation)
        if inner is None:
            yield path + name, NoneType in get_args(field.annotation)
        else:
            yield from _leaves(inner, f"{path}{name}.")


#: The path of every fact of a node that has no facts below it -> whether it may be absent.
LEAVES = dict(_leaves(NodeFacts, ""))


def reads_of(rules: Iterable[Invariant], clusters: Iterable[ClusterFacts]) -> dict[str, set[str]]:
    """Rule -> the facts that it asks for in any of these clusters, also what the cluster file says: `cluster.pools`."""
    found: dict[str, set[str]] = {rule.id: set() for rule in rules}
    for cluster in clusters:
        paths = _paths(cluster.seen)
        for rule in rules:
            fresh = replace(cluster)  # it has computed nothing yet
            with _watched(paths, found[rule.id]):
                rule.decide(fresh)
    known = _FROM_FILE | set(LEAVES)
    return {rule: paths & known for rule, paths in found.items()}


def _paths(seen: Mapping[str, NodeFacts]) -> dict[int, str]:
    """The path of each record in the facts of the nodes, by its identity."""
    paths: dict[int, str] = {}

    def note(value: object, path: str) -> None:
        if isinstance(value, BaseModel):
            paths[id(value)] = path
            for name, inner in value.__dict__.items():
                note(inner, f"{path}{name}.")
        elif isinstance(value, Mapping):
            for inner in value.values():
                note(inner, path)
        elif isinstance(value, tuple):
            for inner in value:
                note(inner, path)

    for facts in seen.values():
        note(facts, "")
    return paths


@contextmanager
def _watched(paths: Mapping[int, str], found: set[str]) -> Iterator[None]:
    plain: Callable[[object, str], Any] = object.__getattribute__

    def of_fact(self: Fact, name: str) -> Any:  # noqa: ANN401 - an attribute may be anything
        path = paths.get(id(self))
        if path is not None:
            found.add(path + name)
        return plain(self, name)

    def of_cluster(self: ClusterFacts, name: str) -> Any:  # noqa: ANN401 - an attribute may be anything
        found.add(f"cluster.{name}")
        return plain(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fact, "__getattribute__", of_fact, raising=False)
        patch.setattr(ClusterFacts, "__getattribute__", of_cluster, raising=False)
        yield
