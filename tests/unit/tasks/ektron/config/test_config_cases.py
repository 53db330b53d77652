"""Case folders of configuration files: input, wanted values, exact output. Each edit is run twice."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from tasks.ektron.config.editors import Edit, edit_asset, edit_ews, edit_service, edit_web
from tasks.ektron.config.readers import read_asset, read_service, read_web
from tasks.ektron.facts import Fact
from tasks.ektron.refusals import ConfigRefused
from tests.places import CASE_FOLDERS

CASES = CASE_FOLDERS / "config"
VALUE = "TkVX"
NAMES = sorted(path.parent.name for path in CASES.glob("*/case.json"))


def load(name: str) -> tuple[bytes, dict[str, Any]]:
    """The input and the case."""
    folder = CASES / name
    return (folder / "input.config").read_bytes(), json.loads((folder / "case.json").read_text(encoding="ascii"))


def editor_of(case: Mapping[str, Any]) -> Callable[[bytes], Edit]:
    """The editor with the values of the case."""
    keys = {f"{node}_SyncClient.cer": VALUE for node in case["nodes"]}
    node = case["node"]
    editors: dict[str, Callable[[bytes], Edit]] = {
        "asset": edit_asset,
        "ews": partial(edit_ews, keys=keys),
        "web": partial(edit_web, client_certificate=f"{node}_SyncClient.pfx", encoded_value=VALUE),
        "service": partial(
            edit_service,
            keys=keys,
            server_certificate=f"{node}_SyncServer.pfx",
            app_settings=case.get("app_settings"),
        ),
    }
    return editors[case["editor"]]


def read(kind: str, data: bytes) -> Fact:
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
    """The edit returns the output of the case, and a second edit changes nothing; or it is refused."""
    data, case = load(name)
    edit = editor_of(case)
    if "refused" in case:
        with pytest.raises(ConfigRefused) as caught:
            edit(data)
        assert case["refused"]["message"] in caught.value.message
        assert caught.value.line == case["refused"]["line"]
        assert case["refused"]["remedy"] in caught.value.remedy
        return
    output = CASES / name / "output.config"
    first = edit(data)
    assert first.data == (output.read_bytes() if output.exists() else data)
    assert [[s.where, s.before, s.after] for s in first.changes] == case["changes"]
    assert list(first.warnings) == case.get("warnings", [])
    second = edit(first.data)
    assert second.changes == ()
    assert second.data == first.data


@pytest.mark.parametrize("name", [name for name in NAMES if "reads" in load(name)[1]])
def test_reading(name: str) -> None:
    """The reader returns the values of the case."""
    data, case = load(name)
    seen = read(case["editor"], data).model_dump(mode="json")
    assert {key: seen[key] for key in case["reads"]} == case["reads"]
