"""The kinds of mutation: a choice of cosmic-ray's operators, and three of our own for guards, filters and calls."""

import re
from collections.abc import Iterator

import cosmic_ray.plugins
from cosmic_ray.ast import get_ast
from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import IfStmt
from parso.tree import BaseNode, NodeOrLeaf

__all__ = ["OPERATORS"]

Span = tuple[tuple[int, int], tuple[int, int]]

#: Of each kind the replacements that a person could have written. The others (`a << b` for `a + b`) fail at once and
#: would only improve the score.
_CHOSEN = re.compile(
    r"core/(Replace(True|False|And|Or|Break|Continue)With\w+|AddNot|ExceptionReplacer|NumberReplacer|RemoveDecorator"
    r"|ZeroIterationForLoop|ReplaceUnaryOperator_Delete_\w+"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Add|Div_Mul|FloorDiv_Mul|Mod_FloorDiv|BitOr_BitAnd|BitAnd_BitOr)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt"
    r"|Is_IsNot|IsNot_Is|In_NotIn|NotIn_In))"
)


def _span(node: NodeOrLeaf) -> Span:
    return node.start_pos, node.end_pos


def _replaced(node: BaseNode, index: int, code: str) -> BaseNode:
    """The node with another child; the white space before the old child stays."""
    old = node.children[index]
    node.children[index] = get_ast(old.get_first_leaf().prefix + code)
    return node


class GuardReplacer(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Makes the condition of an `if` constant: a guard that never acts, and one that always acts."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Span]:
        """One position for each constant."""
        if isinstance(node, IfStmt):
            yield from [_span(node.children[1])] * 2

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """The statement with the constant."""
        return _replaced(node, 1, ("False", "True")[index])

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Read by `tests/unit/house/test_mutation.py`."""
        return (
            Example("if a > 1:\n    b", "if False:\n    b"),
            Example("if a > 1:\n    b", "if True:\n    b", occurrence=1),
        )


class FilterRemover(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Makes the filter of a comprehension accept everything."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Span]:
        """The filter's condition."""
        if isinstance(node, BaseNode) and node.type == "comp_if":
            yield _span(node.children[1])

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """The filter with `True`."""
        assert index == 0
        return _replaced(node, 1, "True")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Read by `tests/unit/house/test_mutation.py`."""
        return (Example("[a for a in b if a > 1]", "[a for a in b if True]"),)


class CallRemover(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Removes a statement that is nothing but a call."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[Span]:
        """The call, where it is the first expression of a line."""
        if isinstance(node, BaseNode) and node.type == "simple_stmt" and node.children[0].type == "atom_expr":
            yield _span(node.children[0])

    def mutate(self, node: BaseNode, index: int) -> BaseNode:
        """The line with `pass`."""
        assert index == 0
        return _replaced(node, 0, "pass")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Read by `tests/unit/house/test_mutation.py`."""
        return (Example("a = b()\nb(a)\n", "a = b()\npass\n"),)


OPERATORS: dict[str, Operator] = {
    name: cosmic_ray.plugins.get_operator(name)()
    for name in sorted(cosmic_ray.plugins.operator_names())
    if _CHOSEN.fullmatch(name)
} | {operator.__name__: operator() for operator in (GuardReplacer, FilterRemover, CallRemover)}
