"""The template of the page is compiled once for an installation, as Python does with its modules."""

import importlib.util
import sys
from pathlib import Path

import pytest

from pipelines.report import html
from pipelines.report.build import build
from tests.unit.pipelines.report.sample_run import sample


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for compiled modules, with this process writing them."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = Path(importlib.util.cache_from_source(html.__file__)).parent
    folder.mkdir(parents=True)
    return folder


def _page() -> str:
    """The page, as a new process writes it."""
    html._template.cache_clear()
    try:
        return html.to_html(build(sample()))
    finally:
        html._template.cache_clear()


def test_a_second_process_uses_the_compiled_template(compiled: Path) -> None:
    """The page is the same, and what the first one has compiled is not written again."""
    first = _page()
    (kept,) = compiled.iterdir()
    written = kept.stat().st_mtime_ns
    assert first == _page()
    assert [kept] == list(compiled.iterdir())
    assert written == kept.stat().st_mtime_ns


@pytest.mark.parametrize("why", ["missing", "unwanted"])
def test_nothing_is_kept_where_python_keeps_nothing(compiled: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Neither where the folder is missing, nor with PYTHONDONTWRITEBYTECODE; the page is written nevertheless."""
    if why == "missing":
        compiled.rmdir()
    else:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert "<html" in _page()
    assert not [path for path in compiled.parent.rglob("*") if path.is_file()]
