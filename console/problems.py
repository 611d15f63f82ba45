"""What went wrong: a title, a sentence with the fix, a status; as ``application/problem+json`` (RFC 9457) or a page."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from console.access import AccessError, TooManyTriesError
from console.advice import ExporterError
from console.catalogue import CatalogueError
from console.rendering import render
from console.tuning import SettingsError
from models.bundle import BundleError
from models.learning import LearnError
from models.promotion import PromotionError
from storage.broker import BrokerUnreachableError
from storage.files import StorageError
from training.background import BusyError
from training.learner import TrainingError
from training.runs import UnknownRunError

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[Exception], tuple[int, str]] = {
    BusyError: (409, "busy"),
    UnknownRunError: (404, "no such training"),
    TrainingError: (409, "training"),
    PromotionError: (409, "not promoted"),
    BundleError: (422, "bundle"),
    SettingsError: (422, "settings"),
    CatalogueError: (409, "not in the catalogue"),
    LearnError: (422, "nothing to learn from"),
    StorageError: (503, "storage"),
    BrokerUnreachableError: (503, "broker"),
    ExporterError: (503, "exporter"),
    TooManyTriesError: (429, "too many tries"),
    AccessError: (503, "access"),
}
"""The nearest class in an error's ancestry counts."""

_TEXT = {"type": "string"}
_SCHEMA = {
    "type": "object",
    "properties": {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
}
PROBLEM: dict[str, Any] = {
    "description": "What went wrong, in a sentence with the fix",
    "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
}
"""How OpenAPI describes one."""


def answer(request: Request, status: int, title: str, detail: str, **more: object) -> Response:
    """Tell what went wrong, as whoever asked can read it: a browser on a page gets a page."""
    if request.url.path.startswith("/ui") and "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(render("problem.html", title=title, detail=detail), status)
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every kind of error with a problem."""
    for kind in STATUS:
        app.add_exception_handler(kind, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _ours(request: Request, error: Exception) -> Response:
    status, title = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    more: dict[str, object] = {"training": error.run.id} if isinstance(error, BusyError) else {}
    return answer(request, status, title, str(error), **more)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answer(request, error.status_code, "refused", str(error.detail))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return answer(request, 422, "invalid request", f"{where}: {first['msg']}")
