"""What the server's machine has and may fetch: `/v1/catalogue`, and `/v1/limits`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from overpaint.apps.server import errors
from overpaint.apps.server.bodies.schemas import ErrorDetail, licence_of
from overpaint.apps.server.errors import NotFound
from overpaint.apps.server.pulls import PullProgress, Pulls, PullStatus
from overpaint.apps.server.routes import ERRORS, service_of
from overpaint.apps.server.service import EditService
from overpaint.apps.wiring.models import catalogue, defaults
from overpaint.apps.wiring.models.catalogue import ModelState
from overpaint.apps.wiring.models.segmentation import SEGMENTERS
from overpaint.checkpoints.machine import fit, this_machine
from overpaint.core import licences
from overpaint.core.models import EDIT_TASKS, ModelSpec

router = APIRouter(prefix="/v1", tags=["models"])


class PullInfo(BaseModel):
    """The download of a model."""

    model: str
    status: PullStatus
    bytes_done: int = Field(description="Of all its files together.")
    bytes_total: int = Field(description="Of all its files; 0 = not known yet.")
    error: ErrorDetail | None = None

    @classmethod
    def of(cls, model: str, progress: PullProgress) -> PullInfo:
        """As callers see it."""
        error = None if progress.error is None else ErrorDetail(**errors.native(progress.error))
        return cls(
            model=model,
            status=progress.status,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            error=error,
        )


class CatalogueEntry(BaseModel):
    """A model that the server's machine has or could fetch."""

    name: str
    task: str = Field(description="`inpaint`, `edit`, `erase`, or `segment`, which finds things.")
    about: str
    licence: str
    commercial: bool
    must_be_accepted: bool = Field(description="Somebody must accept its licence there first.")
    size_gb: float | None = Field(description="Approximate size of the download.")
    memory_gb: float | None = Field(description="Approximate memory that it needs in bfloat16.")
    state: ModelState
    fits: bool | None = Field(description="Whether that machine can hold it; null = not known.")
    fit: str = Field(description="The same in a few words.")
    is_served: bool = Field(description="Whether an edit may name it.")
    is_recommended: bool = Field(description="The one to fetch for its task on that machine.")
    pull: PullInfo | None = Field(description="Its download, if there was one.")


class Catalogue(BaseModel):
    """What the server's machine has and may fetch."""

    machine: str
    data: list[CatalogueEntry]


class Limits(BaseModel):
    """What a request may cost; docs/serving.md says how each is counted."""

    max_megapixels: float = Field(description="Of a picture.")
    max_body_mb: float = Field(description="Of a request.")
    max_images: int = Field(description="Of one edit.")
    can_pull: bool = Field(description="Whether callers may have the server download models.")


@router.get("/limits", response_model=Limits, responses=ERRORS)
def get_limits(request: Request) -> Limits:
    """What a request may cost."""
    limits = service_of(request).limits
    return Limits(
        max_megapixels=limits.max_megapixels,
        max_body_mb=limits.max_body_mb,
        max_images=limits.max_images,
        can_pull=pulls_of(request).allowed,
    )


@router.get("/catalogue", response_model=Catalogue, responses=ERRORS)
async def get_catalogue(request: Request) -> Catalogue:
    """The models that the server's machine has or could fetch, task by task."""
    service, pulls = service_of(request), pulls_of(request)

    def look() -> Catalogue:
        best = {defaults.recommend(task, service.settings).spec.name for task in EDIT_TASKS}
        entries = [
            _entry(spec, task, service, pulls, is_recommended=spec.name in best)
            for task in EDIT_TASKS
            for spec in defaults.ranked(task, service.settings)
        ]
        finders = [_entry(spec, "segment", service, pulls) for spec in SEGMENTERS.values()]
        return Catalogue(machine=str(this_machine()), data=[*entries, *finders])

    return await service.work(look)


@router.post(
    "/models/{id}/pull",
    status_code=202,
    response_model=PullInfo,
    responses=ERRORS,
)
async def post_pull(request: Request, id: str) -> PullInfo:  # noqa: A002 - the path's word
    """Download a model and serve it; `GET` shows how far the download is."""
    service = service_of(request)
    service.check_running()
    return PullInfo.of(id, await service.work(pulls_of(request).begin, id))


@router.get("/models/{id}/pull", response_model=PullInfo, responses=ERRORS)
def get_pull(request: Request, id: str) -> PullInfo:  # noqa: A002 - the path's word
    """How far the download of a model is."""
    progress = pulls_of(request).progress(id)
    if progress is None:
        raise NotFound("no download of this model was started")
    return PullInfo.of(id, progress)


@router.delete("/models/{id}/pull", status_code=204, responses=ERRORS)
def delete_pull(request: Request, id: str) -> Response:  # noqa: A002 - the path's word
    """Stop the download of a model; complete files are kept."""
    pulls_of(request).cancel(id)
    return Response(status_code=204)


def pulls_of(request: Request) -> Pulls:
    """The application's downloads."""
    pulls = request.app.state.pulls
    assert isinstance(pulls, Pulls)
    return pulls


def _entry(
    spec: ModelSpec,
    task: str,
    service: EditService,
    pulls: Pulls,
    *,
    is_recommended: bool = False,
) -> CatalogueEntry:
    licence, verdict = licences.find(spec), fit(spec, this_machine())
    progress = pulls.progress(spec.name)
    terms = licence_of(spec)
    return CatalogueEntry(
        name=spec.name,
        task=task,
        about=spec.about,
        licence=terms["licence"],
        commercial=terms["commercial"],
        must_be_accepted=licence is not None and licence.gated,
        size_gb=spec.size_gb or None,
        memory_gb=spec.memory_gb or None,
        state=catalogue.state(spec, service.settings),
        fits=verdict.fits,
        fit=verdict.text,
        is_served=spec.name in service.served,
        is_recommended=is_recommended,
        pull=None if progress is None else PullInfo.of(spec.name, progress),
    )
