"""Open Inference Protocol v2 (KServe), over REST.

Tensors of an edit: inputs `image` (BYTES [1], base64 of a file), `prompt`, `mask` (white =
repaint), `negative_prompt`, `control`, `copy_from`, `not_from`, `references` (BYTES [n]), `seed`,
`num_images` (INT64 [1]); the family's options are the request's `parameters`. Outputs: `image`
(BYTES [n], base64 of PNG) and `seed` (INT64 [n]).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.config import JsonDict
from starlette.responses import JSONResponse

from overpaint import __version__
from overpaint.apps.server import errors, forms
from overpaint.apps.server.intake import Parts
from overpaint.apps.server.native import encode, service_of
from overpaint.apps.server.schemas import MASK, PICTURE
from overpaint.apps.server.service import Served, Service
from overpaint.core.encoded import from_base64
from overpaint.core.errors import InvalidRequest
from overpaint.core.types import EditResult

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

VERSION = "1"
_TEXTS = ("prompt", "negative_prompt")
_PICTURES = ("image", "mask", "control", "copy_from", "not_from", "references")
_NUMBERS = ("seed", "num_images")
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

    name: Literal[
        "image",
        "mask",
        "control",
        "copy_from",
        "not_from",
        "references",
        "prompt",
        "negative_prompt",
        "seed",
        "num_images",
    ]
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
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
    }
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
    is_ready = service.ready and not service.stopping
    response.status_code = 200 if is_ready else 503
    return {"ready": is_ready}


@router.get("/models/{model}", responses=_ERRORS)
@router.get("/models/{model}/versions/{version}", responses=_ERRORS)
def metadata(request: Request, model: str, version: str = VERSION) -> dict[str, Any]:
    """A model's tensors."""
    served = _served(service_of(request), model, version)
    taken = [name for name in (*_TEXTS, *_PICTURES[1:]) if served.family.need(name) != "refused"]
    return {
        "name": served.spec.name,
        "versions": [VERSION],
        "platform": "overpaint",
        "inputs": [
            *(
                {"name": name, "datatype": "BYTES", "shape": [-1 if name == "references" else 1]}
                for name in ("image", *taken)
            ),
            *({"name": name, "datatype": "INT64", "shape": [1]} for name in _NUMBERS),
        ],
        "outputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "seed", "datatype": "INT64", "shape": [-1]},
        ],
    }


@router.get("/models/{model}/ready", responses=_ERRORS)
@router.get("/models/{model}/versions/{version}/ready", responses=_ERRORS)
def model_ready(request: Request, model: str, version: str = VERSION) -> dict[str, Any]:
    """Whether a model takes edits."""
    service = service_of(request)
    served = _served(service, model, version)
    return {"name": served.spec.name, "ready": service.ready and not service.stopping}


@router.post("/models/{model}/infer", responses=_ERRORS, openapi_extra=_BODY)
@router.post("/models/{model}/versions/{version}/infer", responses=_ERRORS, openapi_extra=_BODY)
async def infer(request: Request, model: str, version: str = VERSION) -> Response:
    """Edit a picture."""
    service = service_of(request)
    service.check_room()
    served = _served(service, model, version)
    if forms.media_type(request) != "application/json":
        raise errors.UnsupportedMediaType("send application/json")
    asked, parts = await service.work(_read, await forms.body(request))
    checked = await service.check(parts, served)
    job = service.accept(checked, request.state.caller, _outputs)
    request.state.edit, request.state.model = job.id, served.spec.name
    outputs = await service.wait(job, request)
    wanted = _OUTPUTS if asked.outputs is None else [output.name for output in asked.outputs]
    return JSONResponse(
        {
            "model_name": served.spec.name,
            "model_version": VERSION,
            "id": asked.id or job.id,
            "outputs": [output for output in outputs if output["name"] in wanted],
        }
    )


def _served(service: Service, model: str, version: str) -> Served:
    if version != VERSION:
        raise errors.NotFound(f"there is no such version; there is {VERSION}")
    return service.resolve(model, masked=False)


def _read(raw: bytes) -> tuple[InferRequest, Parts]:
    try:
        asked = InferRequest.model_validate_json(raw)
    except ValidationError as error:
        raise forms.invalid(error) from error
    tensors: dict[str, list[str | int]] = {}
    for tensor in asked.inputs:
        _check(tensor, tensors)
        tensors[tensor.name] = tensor.data
    if "image" not in tensors:
        raise InvalidRequest("give it as an input of datatype BYTES", field="image")
    values: dict[str, Any] = {
        name: tensors[name][0] for name in (*_TEXTS, *_NUMBERS) if name in tensors
    }
    for name in _PICTURES:
        if name in tensors:
            files = tuple(from_base64(str(text), name) for text in tensors[name])
            values[name] = files if name == "references" else files[0]
    return asked, Parts(options=asked.parameters, **values)


def _check(tensor: InputTensor, seen: dict[str, list[str | int]]) -> None:
    """One tensor of the right kind and shape, once."""
    name, many = tensor.name, tensor.name == "references"
    kind, python = ("INT64", int) if name in _NUMBERS else ("BYTES", str)
    if tensor.datatype != kind or not all(isinstance(each, python) for each in tensor.data):
        raise InvalidRequest(f"its datatype is {kind}", field=name)
    if tensor.shape != [len(tensor.data)] or (not many and len(tensor.data) != 1):
        raise InvalidRequest(
            f"its shape is [{'n' if many else 1}], and its data as long", field=name
        )
    if name in seen:
        raise InvalidRequest("the input is given twice", field=name)


def _outputs(result: EditResult) -> list[dict[str, Any]]:
    made = encode(result)
    count = [len(made["images"])]
    return [
        {"name": "image", "shape": count, "datatype": "BYTES", "data": made["images"]},
        {"name": "seed", "shape": count, "datatype": "INT64", "data": made["seeds"]},
    ]
