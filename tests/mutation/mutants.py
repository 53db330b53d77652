"""Finds, samples and compares mutants: source files with one small fault each."""

import ast
import difflib
import random
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from tests.mutation.operators import OPERATORS
from tests.places import ROOT

__all__ = ["EQUIVALENT", "Equivalent", "Mutant", "is_mutant", "mutants_of", "sampled"]

EQUIVALENT = Path(__file__).with_name("equivalent.toml")

#: Decorators that types and speed need, but no behaviour.
_WITHOUT_BEHAVIOUR = {"cache", "dataclass", "final", "lru_cache", "override", "overload"}


@dataclass(frozen=True)
class Mutant:
    """One fault: the operator and which of its occurrences in the file. `path` is relative to the repository."""

    path: str
    line: int
    operator: str
    occurrence: int

    @cached_property
    def source(self) -> str:
        """The file without the fault."""
        return (ROOT / self.path).read_text()

    @cached_property
    def mutated(self) -> str:
        """The file with the fault."""
        return str(mutate_code(self.source, OPERATORS[self.operator], self.occurrence))

    @cached_property
    def diff(self) -> str:
        """The fault as a unified diff with one line of context."""
        before, after = self.source.splitlines(), self.mutated.splitlines()
        return "\n".join(difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}", n=1, lineterm=""))

    def changed(self, sign: str) -> str:
        """The removed (`-`) or added (`+`) lines of the diff, with single spaces only."""
        lines = self.diff.splitlines()[2:]
        return " ".join(word for line in lines if line.startswith(sign) for word in line[1:].split())


@dataclass(frozen=True)
class Equivalent:
    """A fault that no test can find, because the program behaves the same; one entry of `equivalent.toml`."""

    path: str
    old: str
    new: str
    reason: str

    @classmethod
    def load(cls, path: Path = EQUIVALENT) -> list["Equivalent"]:
        """All entries of the file."""
        return [cls(**entry) for entry in tomllib.loads(path.read_text()).get("equivalent", [])]

    def matches(self, mutant: Mutant) -> bool:
        """Whether the mutant is this one, wherever the line has moved."""
        return (self.path, self.old, self.new) == (mutant.path, mutant.changed("-"), mutant.changed("+"))


class _Behaviour(ast.NodeTransformer):
    """Removes what does not act at run time: annotations, `frozen`, decorators that are there for types or speed."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(value=None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.Call):
            node.keywords = [one for one in node.keywords if one.arg != "frozen"]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [one for one in node.decorator_list if _name(one) not in _WITHOUT_BEHAVIOUR]
        return self.generic_visit(node)


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2]


def is_mutant(source: str, mutated: str) -> bool:
    """Whether the mutated source is valid, and can behave differently from the other one."""
    try:
        before, after = (ast.dump(_Behaviour().visit(ast.parse(code))) for code in (source, mutated))
    except SyntaxError:  # the `*` before keyword-only parameters looks like an operator
        return False
    return before != after


def mutants_of(path: str) -> Iterator[list[Mutant]]:
    """For each position of the file that can be mutated the mutants there, in the order of the file."""
    tree = get_ast((ROOT / path).read_text())
    at: dict[tuple[tuple[int, int], tuple[int, int]], list[Mutant]] = {}
    for name, operator in OPERATORS.items():
        spans = [span for node in ast_nodes(tree) for span in operator.mutation_positions(node)]
        for occurrence, span in enumerate(spans):
            at.setdefault(span, []).append(Mutant(path, span[0][0], name, occurrence))
    yield from (at[span] for span in sorted(at))


def sampled(paths: Iterable[str], size: int, seed: int) -> list[Mutant]:
    """At most `size` mutants of the files and folders, each at another position; the same for the same seed.

    Every position has the same chance, however many operators fit it.
    """
    files = sorted(
        str(file.relative_to(ROOT))
        for path in paths
        for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py"))
    )
    dice = random.Random(seed)  # noqa: S311 -- a sample, no secret
    positions = [position for file in files for position in mutants_of(file)]
    chosen: list[Mutant] = []
    for position in dice.sample(positions, len(positions)):
        mutant = dice.choice(position)
        if len(chosen) < size and is_mutant(mutant.source, mutant.mutated):
            chosen.append(mutant)
    return chosen
