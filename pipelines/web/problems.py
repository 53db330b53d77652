"""Errors as the network sees them, in the words of the terminal: problem documents (RFC 9457); for browsers, pages."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from pipelines.cluster_file.loader import ClusterRefused
from pipelines.cluster_file.mistakes import Mistake
from workers.errors import EsyncError
from workers.logger import logger
from workers.records import Record
from workers.texts import cleaned

__all__ = ["PROBLEM_JSON", "AsPage", "ProblemDocument", "handle_errors", "internal_problem", "problem_answer"]

log = logger(__name__)
PROBLEM_JSON = "application/problem+json"
_DESCRIBED = "/api/v1/openapi.json describes every request; a body is JSON, with Content-Type: application/json"
_TYPED = "go back, and correct what you typed or chose"
_SHOWN = 20  #: mistakes of a body that are listed

#: By the slug of an error. 409 for all others: well formed, and refused as things are. 422 is for a malformed request.
_STATUS = {
    "file_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "not_allowed": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "not_logged_on": HTTPStatus.UNAUTHORIZED,
    "record_refused": HTTPStatus.BAD_GATEWAY,
    "run_unknown": HTTPStatus.NOT_FOUND,
    "store_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
}


class ProblemDocument(Record):
    """Why a request was refused. `error`, `message`, `file` and `remedy` are those of the command line's `--json`."""

    type: str = "about:blank"
    title: str
    status: int
    error: str
    message: str
    file: str = ""
    remedy: str = ""
    mistakes: Annotated[tuple[Mistake, ...], Field(max_length=1000)] = ()


AsPage = Callable[[ProblemDocument, str], Response]  #: a problem as a page, with the way back


def problem_answer(problem: ProblemDocument, method: str, path: str, as_page: AsPage) -> Response:
    """The answer to a request: for programs the document, for browsers the same as a page."""
    if path.startswith("/api/"):
        return JSONResponse(problem.model_dump(mode="json"), problem.status, media_type=PROBLEM_JSON)
    before = quote(path.rpartition("/")[0].lstrip("/"))  # two slashes, or a backslash, would lead to another server
    return as_page(problem, "/" if method == "GET" else f"/{before}")


def _problem_of(error: EsyncError) -> ProblemDocument:
    """An error as a problem document."""
    status = _STATUS.get(error.slug, HTTPStatus.CONFLICT)
    return ProblemDocument(
        title=status.phrase,
        status=status,
        error=error.slug,
        message=error.message,
        file=error.file,
        remedy=error.remedy,
        mistakes=error.mistakes[:1000] if isinstance(error, ClusterRefused) else (),
    )


def handle_errors(app: FastAPI, as_page: AsPage) -> None:
    """Answers every error but unforeseen ones: those reach the guard."""

    def answer(request: Request, problem: ProblemDocument) -> Response:
        return problem_answer(problem, request.method, request.url.path, as_page)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, EsyncError)  # noqa: S101 - registered for it
        told = answer(request, problem := _problem_of(error))
        if problem.status == HTTPStatus.UNAUTHORIZED:
            if not request.url.path.startswith("/api/"):
                return RedirectResponse("/logon", HTTPStatus.SEE_OTHER)
            told.headers["WWW-Authenticate"] = 'Bearer realm="esync"'
        return told

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        return answer(request, _invalid(error, "" if request.url.path.startswith("/api/") else _TYPED))

    async def by_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        told = answer(request, _by_status(error))
        told.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            told.headers["Allow"] = _methods(request)
        return told

    app.add_exception_handler(EsyncError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_status)


def _invalid(error: RequestValidationError, remedy: str) -> ProblemDocument:
    """The first mistakes of a request, each with its place; never the value, which may be secret."""
    lines = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:_SHOWN]]
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return ProblemDocument(
        title=status.phrase,
        status=status,
        error="input_refused",
        message=cleaned(f"this request was not understood: {'; '.join(lines)}"),
        remedy=remedy or _DESCRIBED,
    )


def _by_status(error: HTTPException) -> ProblemDocument:
    """A refusal of the framework: no such path, another method, a body that is too large."""
    status = HTTPStatus(error.status_code)
    slug = {404: "not_found", 405: "method_not_allowed"}.get(status, "input_refused")
    message = {
        400: "the body cannot be read",
        404: "there is nothing at this address",
        405: "this address does not take this method",
    }
    told, remedy = (
        message.get(status, cleaned(str(error.detail))),
        _DESCRIBED if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY} else "",
    )
    return ProblemDocument(title=status.phrase, status=status, error=slug, message=told, remedy=remedy)


def _methods(request: Request) -> str:
    """All methods of the path of a request: the framework names those of one route only."""
    found = {
        method
        for route in iter_route_contexts(request.app.routes)
        if (pattern := getattr(route, "path_regex", None)) and pattern.match(request.url.path)
        for method in route.methods or ()
    }
    found |= {"HEAD"} if "GET" in found else set()
    return ", ".join(sorted(found))


def internal_problem(error: Exception, path: str) -> ProblemDocument:
    """The document of an unforeseen error: a short sentence; the log has the details."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    log.error("internal error", path=path, error=type(error).__name__, exc_info=error)
    message, remedy = f"internal error: {type(error).__name__}", "read the server's log"
    return ProblemDocument(title=status.phrase, status=status, error="internal", message=message, remedy=remedy)
