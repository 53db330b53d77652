"""Every fact is read by a rule that says so, or has a reason; every rule describes itself and can be refuted."""

import importlib
import pkgutil
from dataclasses import replace

import pytest

from tasks.ektron import rules as room
from tasks.ektron.rules.attestations import attestations
from tasks.ektron.rules.findings import Invariant, InvariantState
from tasks.ektron.rules.invariants import ALL_RULES
from tests.places import DOCS
from tests.rules_page import PAGE, page, refuting
from tests.unit.tasks.ektron.joined import joined_cluster
from tests.unit.tasks.ektron.rules.failures import FAILURES
from tests.unit.tasks.ektron.rules.sensitivity import INSTEAD, QUIET, QUIET_VALUES, findings_of, matrix, reads
from tests.unit.tasks.ektron.rules.tracing import LEAVES

RULES = {rule.id: rule for rule in ALL_RULES}
KNOWN_ROWS = 50  #: of ektron-facts 6


def test_every_rule_is_in_the_list() -> None:
    """A rule that a module defines, but that is in neither INVARIANTS nor READINESS_RULES, would never be decided."""
    defined: set[str] = set()
    for module in pkgutil.iter_modules(room.__path__):
        values = vars(importlib.import_module(f"{room.__name__}.{module.name}")).values()
        groups = (value if isinstance(value, tuple) else (value,) for value in values)
        defined |= {rule.id for group in groups for rule in group if isinstance(rule, Invariant)}
    assert len(RULES) == len(ALL_RULES)
    assert set(RULES) == defined, "add the rules to invariants.py"


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_describes_itself(rule: str) -> None:
    """Each rule has a statement, what it reads, what proves it, what it cannot know, a remedy and a source."""
    one = RULES[rule]
    missing = [
        name for name in ("statement", "reads", "proves", "cannot_know", "remedy", "source") if not getattr(one, name)
    ]
    assert missing == [], f"give the Invariant {rule} these fields"
    assert one.statement.endswith(".")
    assert not one.proves.endswith(".")
    assert not one.cannot_know.endswith(".")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_reads_what_it_says(rule: str) -> None:
    """The declared facts are those that the rule asks for, in all clusters of the tests."""
    read, declared = reads()[rule], RULES[rule].reads
    undeclared = {fact for fact in read if not any(fact == part or fact.startswith(f"{part}.") for part in declared)}
    unread = {part for part in declared if not any(fact == part or fact.startswith(f"{part}.") for fact in read)}
    assert (undeclared, unread) == (set(), set()), f"{rule}: add the first to `reads`, remove the second from it"


def test_every_fact_is_read_by_a_rule_or_has_a_reason() -> None:
    """Facts x rules: a fact that no rule asks for says in QUIET what it is for."""
    read = set().union(*reads().values())
    unused = [fact for fact in LEAVES if fact not in read and fact not in QUIET]
    assert unused == [], "write a rule that reads them, do not observe them, or give the reason in QUIET"


def test_every_fact_is_in_the_matrix() -> None:
    """A fact that no row changes could be wrong without anything noticing."""
    assert {row.fact for row, _ in matrix()} == set(LEAVES), "add values to INSTEAD"


def test_every_cell_of_the_matrix_has_a_finding_or_a_reason() -> None:
    """A changed fact makes a rule refuted or unknown; where it does not, QUIET or QUIET_VALUES says why."""
    silent = [f"{row.fact}: {row.after}" for row, _ in matrix() if not row.findings and not row.why_quiet]
    assert silent == [], "write a rule, another value in INSTEAD, or the reason in QUIET or QUIET_VALUES"


def test_no_reason_is_left_behind() -> None:
    """A reason for a fact that has a finding, or that is not observed any more, is removed."""
    found = {row.fact for row, _ in matrix() if row.findings}
    assert set(QUIET) - set(LEAVES) == set()
    assert set(INSTEAD) - set(LEAVES) == set()
    assert set(QUIET) & found == set(), "these facts have findings now: remove them from QUIET"
    silent = {(row.fact, row.after) for row, _ in matrix() if not row.findings}
    assert set(QUIET_VALUES) - silent == set(), "these values have findings now: remove them from QUIET_VALUES"


def test_a_change_on_one_node_names_that_node() -> None:
    """Where a rule about single nodes has a finding, the changed node is in it."""
    wrong = [
        (row.fact, finding.invariant)
        for row, _ in matrix()
        for finding in row.findings
        if row.fact != "node" and row.node not in finding.nodes
    ]
    assert wrong == []


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_can_be_refuted(rule: str) -> None:
    """A rule that no test refutes proves nothing."""
    assert refuting(rule), f"add a breakage (breakages.py) or a case (tests/cases/invariants) that refutes {rule}"


def test_the_joined_cluster_has_no_findings() -> None:
    """The matrix starts from a cluster in which every rule is proven, also those of `esync doctor`."""
    assert findings_of(joined_cluster()) == ()


def test_every_known_failure_is_there() -> None:
    """Each of the failures in ektron-facts 6 is played, asked of a person, or says why nothing is said about it."""
    assert list(FAILURES) == list(range(1, KNOWN_ROWS + 1))
    asked = {one.id for one in attestations(nodes=4, staging=2, production=2)}
    for number, failure in FAILURES.items():
        assert failure.played or failure.asked or failure.silent, number
        assert set(failure.asked) <= asked, number


@pytest.mark.parametrize("number", [number for number, failure in FAILURES.items() if failure.played])
def test_a_known_failure_is_found(number: int) -> None:
    """Each breakage that plays the failure refutes a rule."""
    for name in FAILURES[number].played:
        one = replace(FAILURES[number], played=(name,))
        assert any(finding.verdict is InvariantState.REFUTED for finding in one.findings), name


def test_the_page_about_the_rules_is_current() -> None:
    """docs/rules.md describes the rules and tests as they are: `python -m tests.rules_page docs` writes it again."""
    assert (DOCS / PAGE).read_text("utf-8") == page(), "run: python -m tests.rules_page docs"
