"""What moves on a page: the letters of a run's grid, its parts, its events; or that anything has changed anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.report.rows import Report
from pipelines.web.attendance import Waiting
from pipelines.web.pages.hub import Message, Source
from pipelines.web.pages.overview import Overview
from pipelines.web.pages.rendering import part
from pipelines.web.pages.run_view import head_values, panel_values, revisions
from pipelines.web.pages.scene import Line, Scene, Scenes
from tasks.steering import Steering

__all__ = ["overview_source", "run_source"]

_SAID = 3  #: lines that a screen reader reads at once


@dataclass
class _Seen:
    """What the listeners of a run have been sent."""

    key: object = None
    codes: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    fetch: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    report: Report | None = None

    @property
    def whole(self) -> Message:
        """All of it, as one message."""
        return {"codes": self.codes, "parts": self.parts, "fetch": self.fetch, "lines": self.lines}

    def news(self, now: "_Seen") -> Message:
        """What is different now."""
        known = {line.id for line in self.lines}
        new = [line for line in now.lines if line.id not in known]
        found: Message = {
            "codes": {node: letters for node, letters in now.codes.items() if self.codes.get(node) != letters},
            "parts": {name: text for name, text in now.parts.items() if self.parts.get(name) != text},
            "fetch": now.fetch if now.fetch != self.fetch else {},
            "lines": new,
            "said": "; ".join(line.text.strip() for line in new[-_SAID:]) if self.lines else "",
        }
        return {name: value for name, value in found.items() if value}


def run_source(scenes: Scenes, waits: Waiting, run_id: str) -> Source:
    """What moves on the page of a run: the letters of its grid, its parts, its events."""
    seen = _Seen()

    def look() -> tuple[Message | None, Message, bool]:
        nonlocal seen
        scene = scenes.of(run_id)
        ended = scene.over and scene.reported  # the end is the end when its report has been sent, too
        steering, report = scene.steering(), scene.newest_report()
        waiting = waits.text(scene.progress.record, scene.moved)
        key = scene.after, scene.progress.record.version, steering, id(report), waiting
        if key == seen.key:
            return None, seen.whole, ended
        now = _seen(scene, (steering, waiting), report, seen)
        now.key = key
        news, seen = seen.news(now), now
        return news or None, seen.whole, ended

    return look


def _seen(scene: Scene, state: tuple[Steering, str], report: Report, before: _Seen) -> _Seen:
    steering, waiting = state
    head = _part("head", {**head_values(scene.progress, scene.codes, steering, report), "waiting": waiting})
    same = report is before.report
    running = scene.progress.running
    panel = before.parts["panel"] if same else _part("panel", panel_values(report, scene.answer, running()))
    return _Seen(
        codes=scene.codes,
        parts={"head": head, "panel": panel},
        fetch=revisions(scene.progress, scene.codes, steering),
        lines=scene.lines,
        report=report,
    )


def _part(name: str, values: Mapping[str, Any]) -> str:
    return part("run_parts.html", name, values) or ""


def overview_source(overview: Overview) -> Source:
    """What moves on the pages of the clusters and of the runs: the revision of all of them."""
    sent = ""

    def look() -> tuple[Message | None, Message, bool]:
        nonlocal sent
        whole: Message = {"overview": overview.shown()}
        news = whole if whole["overview"] != sent else None
        sent = whole["overview"]
        return news, whole, False

    return look
