"""The native API, `/v1/models`."""

from __future__ import annotations

from fastapi import APIRouter, Request

from overpaint.apps.server.native import ERRORS, service_of
from overpaint.apps.server.schemas import ModelInfo, ModelList, licence_of
from overpaint.apps.server.service import Served
from overpaint.core.types import FAMILY_PARTS

router = APIRouter(prefix="/v1", tags=["edits"])


@router.get("/models", response_model=ModelList)
def get_models(request: Request) -> ModelList:
    """The models that are served, with their families' options as JSON Schema."""
    service = service_of(request)
    loaded = service.batcher.loaded
    return ModelList(data=[_info(served, loaded) for served in service.served.values()])


@router.get("/models/{id}", response_model=ModelInfo, responses=ERRORS)
def get_model(request: Request, id: str) -> ModelInfo:  # noqa: A002 - the path's word
    """One model."""
    service = service_of(request)
    served = service.resolve(id, masked=False)
    return _info(served, service.batcher.loaded)


def _info(served: Served, loaded: list[str]) -> ModelInfo:
    spec, family = served.spec, served.family
    return ModelInfo(
        id=spec.name,
        family=spec.family,
        about=spec.about,
        **licence_of(spec),
        loaded=spec.name in loaded,
        accepts={part.name: family.need(part.name) for part in FAMILY_PARTS},
        options=family.options.model_json_schema(),
    )
