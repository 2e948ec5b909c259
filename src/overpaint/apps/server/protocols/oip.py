"""Open Inference Protocol v2 (KServe), over REST.

The parts of an edit are inputs: pictures and masks (BYTES, base64 of files; a mask's white is
repainted), texts (BYTES) and numbers (INT64), of shape [1], or [n] where a part is several
pictures. The family's options are the request's `parameters`. Outputs: `image` (BYTES [n], base64
of PNG) and `seed` (INT64 [n]).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict
from starlette.responses import JSONResponse

from overpaint import __version__
from overpaint.apps.server import errors, repeats
from overpaint.apps.server.bodies import forms
from overpaint.apps.server.bodies.answers import encode
from overpaint.apps.server.bodies.fields import from_text
from overpaint.apps.server.routes import parsed, require_type, service_of
from overpaint.apps.server.service import EditService, Served
from overpaint.apps.wire.examples import MASK, PICTURE
from overpaint.apps.wire.intake import EncodedEdit
from overpaint.core.errors import InvalidRequest
from overpaint.core.parts import Part
from overpaint.core.types import PARTS, EditResult

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

VERSION = "1"
LEFT_OUT = {"model": "the path names it", "options": "they are the message's `parameters`"}
"""Parts that are no tensors, and why."""

_INPUTS = {part.name: part for part in PARTS if part.name not in LEFT_OUT}

_OUTPUTS = ("image", "seed")

Number = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]


_EXAMPLE: JsonDict = {
    "id": "1",
    "parameters": {"num_inference_steps": 4},
    "inputs": [
        {"name": "image", "shape": [1], "datatype": "BYTES", "data": [PICTURE]},
        {"name": "mask", "shape": [1], "datatype": "BYTES", "data": [MASK]},
        {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["a red kite"]},
        {"name": "seed", "shape": [1], "datatype": "INT64", "data": [7]},
    ],
}


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class InputTensor(_Message):
    """One input."""

    name: str = Field(json_schema_extra={"enum": [*_INPUTS]})
    shape: list[Number] = Field(max_length=8)
    datatype: Literal["BYTES", "INT64"]
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    data: list[str | Number] = Field(max_length=16)


class OutputName(_Message):
    """An output that is wanted."""

    name: Literal["image", "seed"]
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class InferRequest(_Message):
    """An inference request."""

    model_config = ConfigDict(
        extra="forbid", allow_inf_nan=False, json_schema_extra={"examples": [_EXAMPLE]}
    )

    id: str | None = Field(default=None, max_length=200)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: list[InputTensor] = Field(max_length=16)
    outputs: list[OutputName] | None = Field(default=None, max_length=8)


_ERROR = {
    "description": "an error",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}},
            }
        }
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = dict.fromkeys(errors.DOCUMENTED, _ERROR)
_BODY: dict[str, Any] = {
    "parameters": [repeats.DOCUMENTED],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
    },
}


@router.get("")
def server() -> dict[str, Any]:
    """The server's metadata."""
    return {"name": "overpaint", "version": __version__, "extensions": []}


@router.get("/health/live")
def live() -> dict[str, bool]:
    """The process lives."""
    return {"live": True}


@router.get("/health/ready", responses={503: {"description": "not ready"}})
def ready(request: Request, response: Response) -> dict[str, bool]:
    """Models are loaded and edits are accepted."""
    service = service_of(request)
    response.status_code = 200 if service.ready else 503
    return {"ready": service.ready}


@router.get("/models/{model}", responses=_ERRORS)
@router.get("/models/{model}/versions/{version}", responses=_ERRORS)
def metadata(request: Request, model: str, version: str = VERSION) -> dict[str, Any]:
    """A model's tensors."""
    served = _served(service_of(request), model, version)
    usable_parts = [
        part
        for part in _INPUTS.values()
        if not part.family or served.family.need(part.name) != "refused"
    ]
    return {
        "name": served.spec.name,
        "versions": [VERSION],
        "platform": "overpaint",
        "inputs": [
            {"name": part.name, "datatype": _datatype(part), "shape": [-1 if _many(part) else 1]}
            for part in usable_parts
        ],
        "outputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "seed", "datatype": "INT64", "shape": [-1]},
        ],
    }


@router.get("/models/{model}/ready", responses=_ERRORS)
@router.get("/models/{model}/versions/{version}/ready", responses=_ERRORS)
def model_ready(
    request: Request, response: Response, model: str, version: str = VERSION
) -> dict[str, Any]:
    """Whether a model takes edits."""
    service = service_of(request)
    name = _served(service, model, version).spec.name
    is_ready = service.ready and name not in service.health.errors
    response.status_code = 200 if is_ready else 503
    return {"name": name, "ready": is_ready}


@router.post("/models/{model}/infer", responses=_ERRORS, openapi_extra=_BODY)
@router.post("/models/{model}/versions/{version}/infer", responses=_ERRORS, openapi_extra=_BODY)
async def infer(request: Request, model: str, version: str = VERSION) -> Response:
    """Edit a picture."""
    service = service_of(request)
    service.check_room()
    served = _served(service, model, version)
    require_type(request, "application/json")
    message, edit = await service.read(_read, await forms.body(request))
    async with repeats.claimed(request, "infer", served.spec.name, edit.values) as claim:
        job = claim.job()
        if job is None:
            checked = await service.check(edit, served)
            job = service.accept(checked, request.state.caller, _outputs)
            claim.keep(job)
    request.state.edit, request.state.model = job.id, served.spec.name
    outputs = await service.wait(job, request, keep=claim.has_key)
    names = _OUTPUTS if message.outputs is None else [output.name for output in message.outputs]
    answer = {
        "model_name": served.spec.name,
        "model_version": VERSION,
        "id": message.id or job.id,
        "outputs": [output for output in outputs if output["name"] in names],
    }
    return await service.work(JSONResponse, answer)


def _served(service: EditService, model: str, version: str) -> Served:
    if version != VERSION:
        raise errors.NotFound(f"there is no such version; there is {VERSION}")
    return service.resolve(model)


def _read(raw: bytes) -> tuple[InferRequest, EncodedEdit]:
    message = parsed(raw, InferRequest)
    values: dict[str, Any] = {}
    for tensor in message.inputs:
        if tensor.name in values:
            raise InvalidRequest("the input is given twice", field=tensor.name)
        values[tensor.name] = _value(tensor)
    return message, EncodedEdit(values={**values, "options": message.parameters})


def _value(tensor: InputTensor) -> Any:
    """What one tensor holds.

    Raises:
        InvalidRequest: it is unknown, or of a wrong kind or shape.
    """
    part = _INPUTS.get(tensor.name)
    if part is None:
        raise InvalidRequest(
            f"there is no such input; known are {', '.join(_INPUTS)}", field=tensor.name[:100]
        )
    kind = _datatype(part)
    python = int if kind == "INT64" else str
    if tensor.datatype != kind or not all(isinstance(each, python) for each in tensor.data):
        raise InvalidRequest(f"give the datatype {kind} and values of it", field=part.name)
    many = _many(part)
    if tensor.shape != [len(tensor.data)] or (not many and len(tensor.data) != 1):
        raise InvalidRequest(
            "give the shape [n] and n values" if many else "give the shape [1] and one value",
            field=part.name,
        )
    return from_text(part, tensor.data if many else tensor.data[0])


def _datatype(part: Part) -> Literal["BYTES", "INT64"]:
    return "INT64" if part.kind == "number" else "BYTES"


def _many(part: Part) -> bool:
    return part.kind == "pictures"


def _outputs(result: EditResult) -> list[dict[str, Any]]:
    answer = encode(result)
    count = [len(answer["images"])]
    return [
        {"name": "image", "shape": count, "datatype": "BYTES", "data": answer["images"]},
        {"name": "seed", "shape": count, "datatype": "INT64", "data": answer["seeds"]},
    ]
