"""All pages of the server, and the files that they load."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pipelines.usecases.tokens import token_of
from pipelines.web.identity import Caller, caller_or_none, client_address, proxy_user
from pipelines.web.pages import act, answer, look, stream
from pipelines.web.pages.asking import Viewer, problem_page, to
from pipelines.web.pages.rendering import rendered, static_file
from pipelines.web.served import Served, served
from pipelines.web.sessions import Session, begin_session, end_session
from workers.errors import NotAllowed, NotFound

__all__ = ["problem_page", "router"]

router = APIRouter(include_in_schema=False)
Of = Annotated[Served, Depends(served)]
Known = Annotated[Caller | None, Depends(caller_or_none)]


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file that pages load; its address changes with its content."""
    found = static_file(name)
    if found is None:
        raise NotFound("there is no such file")
    content, media = found
    return Response(content, media_type=media, headers={"Cache-Control": "public, max-age=31536000, immutable"})


@router.get("/logon")
def logon_page(request: Request, of: Of, known: Known) -> Response:
    """Where a person logs on."""
    return to("") if known else HTMLResponse(_logon(request, of))


@router.post("/logon")
def logon(request: Request, of: Of, token: Annotated[str, Form(max_length=400)] = "") -> Response:
    """Begins a session with a token.

    Raises:
        TooManyRequests: this address has sent too many wrong ones.
        NotAllowed: the form is of another site: its reader would work in a session of someone else.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise NotAllowed("this form is of another site; nothing was done", remedy="open the page to log on yourself")
    found = token_of(of.engine, token.strip())
    if found is None:
        of.logons.count(client_address(request))
        return HTMLResponse(_logon(request, of, "This token is not known, was revoked, or has expired."), 403)
    answer = to("")
    begin_session(of, answer, Session(way="token", name=found.name, token=found.id))
    return answer


@router.post("/logoff")
def logoff(request: Request, of: Of, asking: Viewer) -> Response:
    """Ends the session."""
    del asking
    answer = to("logon")
    end_session(of, request, answer)
    return answer


def _logon(request: Request, of: Served, problem: str = "") -> str:
    openid = of.access.openid
    return rendered(
        "logon.html",
        me=None,
        at="",
        problem=problem,
        openid=openid.button if openid else "",
        proxy=proxy_user(request, of)[0],
    )


for part in (look, act, answer, stream):
    router.include_router(part.router)
