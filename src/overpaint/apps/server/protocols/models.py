"""The native API, `/v1/models`."""

from __future__ import annotations

from fastapi import APIRouter, Request

from overpaint.apps.server.bodies.schemas import ModelInfo, ModelList, PartInfo, licence_of
from overpaint.apps.server.errors import message_of
from overpaint.apps.server.routes import ERRORS, service_of
from overpaint.apps.server.service import EditService, Served
from overpaint.apps.wiring.models import adapters, defaults
from overpaint.core.types import FAMILY_PARTS

router = APIRouter(prefix="/v1", tags=["edits"])


@router.get("/models", response_model=ModelList)
def get_models(request: Request) -> ModelList:
    """The models that are served, with their families' options as JSON Schema."""
    service = service_of(request)
    return ModelList(data=[_info(served, service) for served in service.served.values()])


@router.get("/models/{id}", response_model=ModelInfo, responses=ERRORS)
def get_model(request: Request, id: str) -> ModelInfo:  # noqa: A002 - the path's word
    """One model."""
    service = service_of(request)
    return _info(service.resolve(id), service)


def _info(served: Served, service: EditService) -> ModelInfo:
    spec, family = served.spec, served.family
    needs = {part: family.need(part.name) for part in FAMILY_PARTS}
    error = service.health.errors.get(spec.name)
    real = defaults.real_model(spec, service.settings)
    return ModelInfo(
        id=spec.name,
        family=spec.family,
        aliases=service.aliases_of(served),
        adapters=[] if spec.source == "none" else list(adapters.files(service.settings)),
        about=spec.about,
        **licence_of(spec),
        is_demo=real is not None,
        real_model=None if real is None else real.name,
        real_model_gb=None if real is None else real.size_gb or None,
        loaded=error is None and spec.name in service.batcher.loaded,
        error=None if error is None else message_of(error),
        accepts={part.name: need for part, need in needs.items()},
        parts=[
            PartInfo(name=part.name, kind=part.kind, need=need, help=part.help)
            for part, need in needs.items()
            if need != "refused"
        ],
        options=family.options.model_json_schema(),
    )
