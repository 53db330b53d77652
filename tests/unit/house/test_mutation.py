"""The mutation run itself: its operators, what it leaves out, and the list of equivalent mutants."""

import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator

from tests.mutation.judges import judges_of
from tests.mutation.mutants import Equivalent, is_mutant, sampled
from tests.mutation.operators import OPERATORS
from tests.places import ROOT

EXAMPLES = [
    pytest.param(operator, example, id=f"{name}-{number}")
    for name, operator in OPERATORS.items()
    if not name.startswith("core/")
    for number, example in enumerate(operator.examples())
]


@pytest.mark.parametrize(("operator", "example"), EXAMPLES)
def test_an_operator_makes_its_fault(operator: Operator, example: Example) -> None:
    """Each operator of ours changes the code as its example shows."""
    mutated = mutate_code(example.pre_mutation_code, operator, example.occurrence)
    assert mutated == example.post_mutation_code


@pytest.mark.parametrize(
    ("source", "mutated"),
    [
        ("def f(a: int | str) -> None: ...", "def f(a: int & str) -> None: ..."),
        ("def f() -> int | None: ...", "def f() -> int & None: ..."),
        ("@dataclass(frozen=True)\nclass A: ...", "@dataclass(frozen=False)\nclass A: ..."),
        ("def f(self, *, a): ...", "def f(self, +, a): ..."),
    ],
)
def test_what_no_test_could_find_is_no_mutant(source: str, mutated: str) -> None:
    """Annotations, frozen records and code that is not valid are left out."""
    assert not is_mutant(source, mutated)


def test_a_fault_in_a_line_is_a_mutant() -> None:
    """Another value is one."""
    assert is_mutant("a = 1", "a = 2")


def test_the_same_seed_draws_the_same_mutants() -> None:
    """A sample can be repeated, and another seed draws another one."""
    first, again, other = (sampled(["tasks/ektron/xml/splice.py"], 5, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_file_is_judged_by_its_folder_first() -> None:
    """Then by the tests of its room, then by the contract suite."""
    mirrored = ["tests/unit/tasks/ektron/config", "tests/unit/tasks/ektron"]
    assert mirrored == judges_of("tasks/ektron/config/readers.py")
    assert "tests/contract/test_store.py" in judges_of("workers/store/memory.py")


def test_equivalent_mutants_are_of_lines_that_exist() -> None:
    """An entry whose line has changed since has to be decided again."""
    entries = Equivalent.load()
    gone = [entry for entry in entries if entry.old not in " ".join((ROOT / entry.path).read_text().split())]
    assert gone == []
    assert all(len(entry.reason.split()) > 3 for entry in entries)
