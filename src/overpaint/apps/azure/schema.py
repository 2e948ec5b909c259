"""What scoring takes, answers and refuses, for `/openapi.json` and for `/swagger.json`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from overpaint import __version__
from overpaint.apps.wire.errors import code_of, named_message
from overpaint.apps.wire.examples import MASK, PICTURE
from overpaint.core.imaging import borders
from overpaint.core.parts import Kind
from overpaint.jobs import rows
from overpaint.jobs.tables import FORMS


class Scored(BaseModel):
    """The answer to a row."""

    prompt: str
    generated_image: str = Field(description="base64 of a PNG file of the input's size.")
    nsfw_content_detected: bool | None = Field(
        description="Whether the safety policy flagged it; null = nobody checked."
    )


class Predictions(BaseModel):
    """The answer of MLflow's route."""

    predictions: list[Scored]


class ScoringError(BaseModel):
    """What went wrong; the message names row and column."""

    error_code: str
    message: str


def error_body(error: BaseException) -> dict[str, str]:
    """An error as Azure ML's server and MLflow's report it."""
    return {"error_code": code_of(error).upper(), "message": named_message(error)}


EXAMPLE = {
    "columns": ["prompt", "image", "mask_image"],
    "index": [0],
    "data": [{"prompt": "a red kite in the sky", "image": PICTURE, "mask_image": MASK}],
    "parameters": {"num_inference_steps": 4, "guidance_scale": 7.5, "seed": 7},
}
_PICTURE = {"type": "string", "description": "base64 of a picture file"}
_TYPES: dict[Kind, dict[str, Any]] = {
    "picture": _PICTURE,
    "mask": _PICTURE,
    "pictures": {"type": "array", "items": _PICTURE},
    "text": {"type": "string"},
    "number": {"type": "integer"},
    "choice": {"type": "string"},
    "borders": borders.SCHEMA,
    "options": {"type": "object"},
}
_ROW = {
    "type": "object",
    "properties": {
        rows.columns_of(part)[0]: {"title": part.help, **_TYPES[part.kind]}
        for part in rows.ROW_PARTS
    },
}
_TABLE = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "index": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array", "items": _ROW},
        "parameters": {"type": "object", "description": "options of the model, for all rows"},
    },
}
_INPUT = {
    "type": "object",
    "required": ["input_data"],
    "properties": {"input_data": _TABLE},
    "example": {"input_data": EXAMPLE},
}
_OUTPUT = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "generated_image": {"type": "string"},
            "nsfw_content_detected": {"type": "boolean"},
        },
    },
}


def body(form: str) -> dict[str, Any]:
    """The request body of a route in the OpenAPI document; `form` is the one of its example."""
    forms = {each: {"description": "rows, in any of the forms"} for each in FORMS}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            **forms,
                            form: _TABLE,
                            "parameters": {"type": "object"},
                            "params": {"type": "object"},
                        },
                        "examples": [{form: EXAMPLE}],
                    }
                },
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    }


def swagger(version: str) -> dict[str, Any] | None:
    """The document of `/score` as Swagger 2, OpenAPI 3.0 or 3.1; None = no such version."""
    if version in ("2", "2.0"):
        return _swagger_2()
    if version in ("3", "3.0", "3.1"):
        return _openapi({"3": "3.0.3", "3.0": "3.0.3", "3.1": "3.1.0"}[version])
    return None


_INFO = {"title": "Overpaint", "version": __version__}


def _swagger_2() -> dict[str, Any]:
    answers = {
        "200": {"description": "the rows", "schema": {"$ref": "#/definitions/ServiceOutput"}},
        "default": {"description": "an error", "schema": {"$ref": "#/definitions/ErrorResponse"}},
    }
    parameter = {"name": "rows", "in": "body", "required": True}
    return {
        "swagger": "2.0",
        "info": _INFO,
        "schemes": ["https", "http"],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {
            "Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}
        },
        "paths": {
            "/": {"get": {"responses": {"200": {"description": "Healthy"}}}},
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "security": [{"Bearer": []}],
                    "parameters": [{**parameter, "schema": {"$ref": "#/definitions/ServiceInput"}}],
                    "responses": answers,
                }
            },
        },
        "definitions": _definitions(),
    }


def _openapi(version: str) -> dict[str, Any]:
    def content(name: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    answers = {
        "200": {"description": "the rows", "content": content("ServiceOutput")},
        "default": {"description": "an error", "content": content("ErrorResponse")},
    }
    return {
        "openapi": version,
        "info": _INFO,
        "paths": {
            "/": {"get": {"responses": {"200": {"description": "Healthy"}}}},
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "security": [{"bearerAuth": []}],
                    "requestBody": {"required": True, "content": content("ServiceInput")},
                    "responses": answers,
                }
            },
        },
        "components": {
            "securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}},
            "schemas": _definitions(),
        },
    }


def _definitions() -> dict[str, Any]:
    error = {"type": "object", "properties": {"message": {"type": "string"}}}
    return {"ServiceInput": _INPUT, "ServiceOutput": _OUTPUT, "ErrorResponse": error}
