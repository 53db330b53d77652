"""What every page needs: who asks, what all pages share, the part that was asked for, and a problem as a page."""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pipelines.usecases.tokens import Role
from pipelines.web.attendance import Waiting, waiting
from pipelines.web.identity import Caller, allowed
from pipelines.web.pages.hub import Hub
from pipelines.web.pages.overview import Overview
from pipelines.web.pages.rendering import part, rendered
from pipelines.web.pages.scene import Scenes
from pipelines.web.problems import ProblemDocument
from pipelines.web.served import Served, served
from workers.errors import InputRefused

__all__ = ["Looking", "Shared", "Viewer", "page", "problem_page", "shared", "to"]

Viewer = Annotated[Caller, Depends(allowed(Role.VIEWER))]


class Shared:
    """What all pages of one server share: what was read for one reader need not be read for the next."""

    def __init__(self, of: Served, waits: Waiting) -> None:
        self.served = of
        self.engine = of.engine
        self.scenes = Scenes(of.engine)
        self.overview = Overview(of.engine, of.clusters)
        self.waits = waits
        self.hub = Hub()


def shared(request: Request, of: Annotated[Served, Depends(served)]) -> Shared:
    """What all pages share; a dependency."""
    state = request.app.state
    if not hasattr(state, "pages"):
        state.pages = Shared(of, waiting(request))
    found: Shared = state.pages
    return found


Looking = Annotated[Shared, Depends(shared)]


def page(request: Request, template: str, parts: str, **values: Any) -> HTMLResponse:  # noqa: ANN401 - what it shows
    """A page, or that one part of it that the request names.

    Args:
        request: with `part=NAME` only that part is answered.
        template: of the page.
        parts: the template with its parts; empty for a page without.
        values: what it shows.
    """
    wanted = request.query_params.get("part", "")
    if not wanted or not parts:
        return HTMLResponse(rendered(template, **values))
    text = part(parts, wanted, values)
    if text is None:
        raise InputRefused("the page has no such part", remedy="load the whole page")
    return HTMLResponse(text)


def to(*names: str, part: str = "") -> RedirectResponse:
    """The answer to a form: look there, at that part of the page."""
    path = "/" + "/".join(quote(name, safe="") for name in names)
    return RedirectResponse(f"{path}#{part}" if part else path, HTTPStatus.SEE_OTHER)


def problem_page(problem: ProblemDocument, back: str) -> Response:
    """A problem as a page."""
    mistakes = [str(one) for one in problem.mistakes[:50]]
    text = rendered("problem.html", me=None, at="", title=problem.title, problem=problem, mistakes=mistakes, back=back)
    return HTMLResponse(text, problem.status)
