"""Case folders of configuration files: input, wanted values, exact output. Each edit is run twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.ektron.certificates.family import thumbprint
from tasks.ektron.config.readers import read_asset, read_service, read_web
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.settings import edited
from tasks.ektron.desired.target import Target
from tasks.ektron.facts.values import Fact
from tasks.ektron.refusals import ConfigRefused
from tests.places import CASE_FOLDERS
from tests.unit.tasks.ektron.configured import differences_of

CASES = CASE_FOLDERS / "config"
VALUE = "TkVX"
NAMES = sorted(path.parent.name for path in CASES.glob("*/case.json"))


def load(name: str) -> tuple[Content, dict[str, Any]]:
    """The input and the case."""
    folder = CASES / name
    data = Content((folder / "input.config").read_bytes(), included(folder / "included"))
    return data, json.loads((folder / "case.json").read_text(encoding="ascii"))


def included(folder: Path) -> dict[str, bytes]:
    """The files that the input includes, or the output."""
    return {path.name: path.read_bytes() for path in folder.glob("*")}


FILES = {"asset": ConfigFile.ASSET, "service": ConfigFile.SERVICE, "web": ConfigFile.WEB, "ews": ConfigFile.EWS}


def target_of(case: Mapping[str, Any]) -> Target:
    """What the case's node has to be."""
    return Target(node=case["node"], nodes=case["nodes"], is_origin=True, hashes={}, thumbprint=thumbprint(VALUE))


def read(kind: str, data: Content) -> Fact:
    """The file as the rules see it. The digest of a connection string is its length."""
    if kind == "asset":
        return read_asset(data)
    if kind == "web":
        return read_web(data, lambda text: f"digest of {len(text)} characters")
    return read_service(data)


def test_there_are_cases() -> None:
    """The test finds the case folders."""
    assert len(NAMES) > 100


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    """The edit gives the case's output, the plan its changes; on the output both give none. Or the edit is refused."""
    data, case = load(name)
    file, target = FILES[case["editor"]], target_of(case)
    if "refused" in case:
        with pytest.raises(ConfigRefused) as caught:
            edited(file, data, target, VALUE)
        assert case["refused"]["message"] in caught.value.message
        assert caught.value.line == case["refused"]["line"]
        assert case["refused"]["remedy"] in caught.value.remedy
        return
    output = CASES / name / "output.config"
    first = edited(file, data, target, VALUE)
    assert first.data == (output.read_bytes() if output.exists() else data.data)
    assert first.included == included(CASES / name / "output")
    changes = differences_of(file, data, target)
    assert [[change.what, change.before, change.after] for change in changes] == case["changes"]
    assert {change.file.rpartition("\\")[2] for change in changes} == {
        *first.included,
        *([f"{file}.config"] if first.changed else []),
    }
    done = Content(first.data, {**data.included, **first.included})
    second = edited(file, done, target, VALUE)
    assert differences_of(file, done, target) == []
    assert (second.data, second.changed, second.included) == (first.data, False, {})


@pytest.mark.parametrize("name", [name for name in NAMES if "reads" in load(name)[1]])
def test_reading(name: str) -> None:
    """The reader returns the values of the case."""
    data, case = load(name)
    seen = read(case["editor"], data).model_dump(mode="json")
    assert {key: seen[key] for key in case["reads"]} == case["reads"]
