"""The words: phrases that are hard to read at night do not occur in code, documents, tests or messages."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.places import ROOT

FOLDERS = ("pipelines", "tasks", "workers", "lab", "docker", "docs", "tests")
SUFFIXES = {".html", ".lua", ".md", ".ps1", ".py", ".toml", ".yaml", ".yml"}
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")

#: Regular expressions; case does not count, a space matches any white space, and a letter at the start begins a word.
ODD = (
    r"of its own accord",
    r"a person has clicked",
    r"takes it back",
    r"pushed on meanwhile",
    r"keeps us waiting",
    r"lets everything go",
    r"go on\?",
    r"[;,] do: ",
    r"spoken to",
    r"says of itself",
    r"how the nodes stand",
    r"broken off",
    r"gone silent",
    r"of no more use",
    r"no whole zip",
    r"is not taken here",
    r"vouched",
    r"is another one",
    r"the only trouble",
    r"look at this:",
    r"takes? (it|this|that|them|a run)? ?back",
    r"\bnobody\b",
    r"\bsomebody\b",
    r"\bwhoever\b",
    r"\bis told\b",
    r"\bare told\b",
    r"\bcomes? to be\b",
    r"what (it|this|a run|a step) comes? to\b",
    r"\bgoes on\b",
    r"as it stands",
    r"in the middle of",
    r"lets? (it|them|everything) go\b",
    r"\bfor ever\b",
    r"what is (wrong|amiss) with",
    r"\bis at work\b",
    r"was told\b",
    r"\bunder way\b",
    r"has it that",
    r"\bmend(s|ed)?\b",
    r"somebody else's",
    r"is no whole\b",
    r"the cluster go\b",
    r"how manieth",
    r"\bdeeds?\b",
    r"\brig\b",
    r"tells of\b",
)


def _files() -> Iterator[Path]:
    for name in PAGES:
        yield ROOT / name
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__) and "cases" not in path.parts:
                yield path


def _texts(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """The texts of a file with their first lines: in Python the comments and strings; in tests only docstrings."""
    if path.suffix != ".py":
        yield 1, source
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    in_tests = path.is_relative_to(ROOT / "tests")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) or not in_tests:
            value = node.value if isinstance(node, ast.Expr) else node
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def found(phrases: tuple[str, ...]) -> list[str]:
    """Each occurrence as `file:line: phrase`."""
    places = set()
    for path in _files():
        source = path.read_text()
        for odd in (odd for odd in _patterns(phrases) if odd.search(source)):
            for line, text in _texts(path, source):
                for match in odd.finditer(text):
                    phrase = " ".join(match[0].split())
                    places.add((str(path.relative_to(ROOT)), line + text.count("\n", 0, match.start()), phrase))
    return [f"{path}:{line}: {phrase}" for path, line, phrase in sorted(places)]


@cache
def _patterns(phrases: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Words and other phrases apart: what begins at the start of a word is found ten times as fast."""
    words = [phrase.removeprefix(r"\b") for phrase in phrases if phrase.removeprefix(r"\b")[0].isalpha()]
    others = [phrase for phrase in phrases if not phrase.removeprefix(r"\b")[0].isalpha()]
    found = (rf"\b(?:{'|'.join(words)})", "|".join(others))
    return tuple(re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE) for pattern in found)


def test_no_odd_phrase_is_used() -> None:
    """Code, documents, tests and messages use plain technical English."""
    assert found(ODD) == []


@pytest.mark.parametrize("phrase", ODD)
def test_a_phrase_is_a_regular_expression(phrase: str) -> None:
    """A phrase that does not compile, or matches everything, would prove nothing."""
    assert re.compile(phrase).fullmatch("") is None
