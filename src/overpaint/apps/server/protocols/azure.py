"""The routes of Azure ML's and MLflow's scoring servers, for the text-to-image-inpainting contract.

`/score` answers the bare rows, `/invocations` has them under `predictions`; both take rows in every
form that `jobs.tables` knows. Blocked rows are answered too: flagged, with a black picture.
docs/azure.md describes it.
"""

from __future__ import annotations

import io
import logging
import time
from asyncio import gather
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, PlainTextResponse

from overpaint import __version__
from overpaint.apps.azure.schema import Predictions, Scored, ScoringError, body, swagger
from overpaint.apps.server import errors, repeats
from overpaint.apps.server.bodies import forms
from overpaint.apps.server.jobs import EditJob
from overpaint.apps.server.logs import report
from overpaint.apps.server.repeats import Claim
from overpaint.apps.server.routes import service_of
from overpaint.apps.server.service import Accepted, EditService, Served
from overpaint.apps.wire import intake
from overpaint.core.errors import ContentBlocked, InvalidRequest, OverpaintError
from overpaint.core.types import EditResult
from overpaint.jobs import rows, tables
from overpaint.jobs.rows import Row

FAMILY = "sd2"
"""The contract is that of stable-diffusion-2-inpainting: a model of its family comes first."""

LONGEST_ID = 100

_log = logging.getLogger(__name__)

_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": ScoringError, "description": "an error"}
    for status in (*errors.DOCUMENTED, 431)
}


class LongHeader(errors.Refusal):
    """A request id is longer than it may be."""

    code = "header_too_large"
    status: ClassVar[int] = 431


class ScoringRoute(APIRoute):
    """Headers as Azure ML's server gives them, on errors too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler between the reading and the writing of headers."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            extra: dict[str, str] = {}
            try:
                extra |= _ids(request)
                answer = await handle(request)
            except OverpaintError as error:
                answer = errors.response(error, request.url.path)
                if answer.status_code >= 500:
                    if not isinstance(error, errors.Refusal):
                        report(_log, "refused", error)
                    extra["x-ms-run-function-failed"] = "True"
            answer.headers.update(extra)
            return answer

        return handler


router = APIRouter(tags=["azure ml, mlflow"], route_class=ScoringRoute)


@router.get("/ping", include_in_schema=False)
@router.get("/health", include_in_schema=False)
def health(request: Request) -> Response:
    """Models are loaded and edits are accepted (MLflow's probe)."""
    service = service_of(request)
    return PlainTextResponse("\n", 200 if service.ready else 503)


@router.get("/version", include_in_schema=False)
def version() -> Response:
    """Overpaint's version, where MLflow reports its own."""
    return PlainTextResponse(__version__)


@router.get("/swagger.json", include_in_schema=False)
def swagger_json(version: str = "2") -> Response:
    """The document of `/score`, as Azure ML's server gives it."""
    document = swagger(version)
    if document is None:
        raise errors.NotFound("there is no such version; there are 2, 3 and 3.1")
    return JSONResponse(document)


@router.options("/score", include_in_schema=False)
def score_options() -> Response:
    """Empty, as Azure ML's server answers it."""
    return Response()


@router.post(
    "/score",
    responses={200: {"model": list[Scored]}, **_DOCUMENTED},
    openapi_extra={**body("input_data"), "parameters": [repeats.DOCUMENTED]},
)
async def score(request: Request) -> Response:
    """Inpaint rows (Azure ML's contract)."""
    return await _scored(request, lambda answers: answers)


@router.post(
    "/invocations",
    responses={200: {"model": Predictions}, **_DOCUMENTED},
    openapi_extra={**body("dataframe_split"), "parameters": [repeats.DOCUMENTED]},
)
async def invocations(request: Request) -> Response:
    """Inpaint rows (MLflow's contract)."""
    return await _scored(request, lambda answers: {"predictions": answers})


async def _scored(request: Request, wrap: Callable[[list[dict[str, Any]]], Any]) -> Response:
    started = time.perf_counter()
    answers = await _score(request)
    milliseconds = f"{(time.perf_counter() - started) * 1e3:.3f}"
    headers = {"x-ms-run-fn-exec-ms": milliseconds}
    return await service_of(request).work(JSONResponse, wrap(answers), 200, headers)


async def _score(request: Request) -> list[dict[str, Any]]:
    """All rows of a request, their steps mixed with each other's and with other requests'."""
    service = service_of(request)
    service.check_room()
    read = _reader(forms.media_type(request))
    table = await service.read(_rows, read, await forms.body(request), service.limits.max_images)
    served = _served(service)
    request.state.model = served.spec.name
    checked = _all(await gather(*(_check(service, row, served) for row in table)))
    jobs: list[EditJob[dict[str, Any]]] = []
    try:
        async with repeats.claimed(request, "rows", table) as claim:
            for row, edit in zip(table, checked, strict=True):
                jobs.append(_job(request, row, edit, claim))
        return [
            await _answer(row, edit, job, request, keep=claim.has_key)
            for row, edit, job in zip(table, checked, jobs, strict=True)
        ]
    finally:
        # The jobs still under way are not needed: a row failed, or the caller disconnected.
        if repeats.HEADER not in request.headers:
            for job in jobs:
                service.cancel(job)


def _job(request: Request, row: Row, edit: Accepted, claim: Claim) -> EditJob[dict[str, Any]]:
    """The job of an earlier request for the row, or a new one."""
    job = claim.job(row.number)
    if job is None:
        job = service_of(request).accept(edit, request.state.caller, _encoder(row))
        claim.keep(job, row.number)
    return job


def _reader(kind: str) -> Callable[[bytes], tables.RowTable]:
    if kind in ("application/json", ""):
        return tables.from_json
    if kind == "text/csv":
        return _from_csv
    raise errors.UnsupportedMediaType("send application/json or text/csv")


def _from_csv(raw: bytes) -> tables.RowTable:
    try:
        lines = io.StringIO(raw.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"it is not UTF-8: {error.reason}", field="body") from error
    records = []
    for record in tables.from_csv(lines):
        if isinstance(record, InvalidRequest):
            raise record
        records.append(record)
    if not records:
        raise InvalidRequest("there are no rows", field="body")
    return tables.RowTable(records)


def _rows(read: Callable[[bytes], tables.RowTable], raw: bytes, most: int) -> list[Row]:
    return rows.parse_table(read(raw), most=most)


def _served(service: EditService) -> Served:
    for served in service.served.values():
        if served.spec.family == FAMILY:
            return served
    return service.resolve(None, "inpaint")


async def _check(service: EditService, row: Row, served: Served) -> Accepted | OverpaintError:
    try:
        return await service.check(intake.of_row(row), served)
    except InvalidRequest as error:
        return row.at(error)
    except OverpaintError as error:
        return error


def _all(checked: Iterable[Accepted | OverpaintError]) -> list[Accepted]:
    """All of them, or the error of the first row that has one."""
    edits = []
    for each in checked:
        if isinstance(each, OverpaintError):
            raise each
        edits.append(each)
    return edits


def _encoder(row: Row) -> Callable[[EditResult], dict[str, Any]]:
    return lambda result: rows.answer(row, result.pictures[0], result.flagged[0])


async def _answer(
    row: Row, edit: Accepted, job: EditJob[dict[str, Any]], request: Request, *, keep: bool
) -> dict[str, Any]:
    service = service_of(request)
    try:
        return await service.wait(job, request, keep=keep)
    except ContentBlocked:
        black = rows.blocked(edit.request.size)
        return await service.work(rows.answer, row, black, True)
    except InvalidRequest as error:
        raise row.at(error) from error


def _ids(request: Request) -> dict[str, str]:
    """The caller's request ids, to be sent back; the log has the first too.

    Raises:
        LongHeader: one is too long.
    """
    headers = request.headers
    client = headers.get("x-ms-client-request-id", "")
    legacy = headers.get("x-ms-request-id", "")
    own = headers.get("x-request-id") or request.state.request_id
    for name, value in (
        ("x-request-id", own),
        ("x-ms-client-request-id", client),
        ("x-ms-request-id", legacy),
    ):
        if len(value) > LONGEST_ID:
            raise LongHeader(f"{name} is longer than {LONGEST_ID} characters")
    request.state.request_id = own
    client = client or legacy
    ids = {"x-ms-request-id": legacy or client or own}
    return {**ids, "x-ms-client-request-id": client} if client else ids
