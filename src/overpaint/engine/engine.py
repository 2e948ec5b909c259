"""The engine: one request in, one result out, the same way for every interface.

    check → safety → plan → prepare → steps → decode → composite → safety → recipe

`begin` and `finish` are the two halves around the steps, so that a caller who runs many requests at
once can mix their steps. The safety policy stands in both, and in `preview`: there is no other way
in or out. Each of them can be taken in two, so that a slow check does not hold up other edits:

    screen → begin        decode → deliver        decode_preview → deliver_preview

The engine is synchronous. `step` may run in a second thread, and what checks (`screen`, `deliver`,
`deliver_preview`) in any; one thread at a time does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from PIL import Image

from overpaint.checkpoints import shortage
from overpaint.core.errors import Cancelled
from overpaint.core.imaging.fidelity.target import Locator
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest, EditResult, Progress
from overpaint.diffusion.denoise import denoise
from overpaint.diffusion.family import Prepared
from overpaint.diffusion.options import FamilyOptions
from overpaint.engine import canvas, clock, intake, rendering, rewriting, streams, windows
from overpaint.engine.cache import ModelCache
from overpaint.engine.checking import CheckedRequest, check, unread
from overpaint.engine.clock import Throttle
from overpaint.engine.edit import (
    Decoded,
    Edit,
    Screened,
    location_of_target,
    plain_request,
    recalled_images,
)
from overpaint.engine.intake import PictureLike, takes_parts
from overpaint.engine.model import Model
from overpaint.engine.rewriting import Rewriter
from overpaint.engine.windows import EncodedRegions
from overpaint.provenance import marks, recipes
from overpaint.provenance.marks import Marking
from overpaint.safety.policy import Policy, Stop

TOO_LARGE = (
    "the edit does not fit into memory; make fewer images at once, mark a smaller area, or choose "
    "a smaller dtype"
)

T = TypeVar("T")


class Compute(Protocol):
    """Has work for the device done, in whichever thread that is."""

    def __call__(self, work: Callable[[], T]) -> T: ...


class Engine:
    """Edits pictures with the models that it is given.

    Args:
        load: gives the model of a name; asked once per name, and again after it left.
        model: name of the model used where a request names none.
        budget: bytes of weights that stay loaded, the least recently used model leaves; None =
            whatever `load` finds room for.
        policy: what is checked before anything is computed and before anything leaves; None =
            nothing.
        marking: what the files of results say about themselves.
        rewriter: makes prompts of short wishes; None = prompts stay as they are.
        device: the one that its models compute on, as torch names it.
        locator: finds what an instruction without a mask names, so that changes far from it are
            put back; None = small changes far from the largest are.
        eraser: name of a model without weights that continues a picture which grows, for models
            that see what is in its border; None = they see its edges go on.

    Attributes:
        compute: has all work for the device done.
    """

    def __init__(
        self,
        load: Callable[[str], Model],
        model: str,
        *,
        budget: int | None = None,
        policy: Policy | None = None,
        marking: Marking | None = None,
        rewriter: Rewriter | None = None,
        locator: Locator | None = None,
        device: str = "cpu",
        eraser: str | None = None,
    ) -> None:
        self.models = ModelCache(load, budget)
        self.default_model = model
        self.policy = policy or Policy.off()
        self.marking = marking or Marking()
        self.rewriter = rewriter
        self.locator = locator
        self.device = device
        self.eraser = eraser
        self.clock = clock.of(device)
        self.compute: Compute = _at_once

    @takes_parts
    def edit(
        self,
        image: PictureLike,
        prompt: str = "",
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        **values: Any,
    ) -> EditResult:
        """Edit one picture.

        Args:
            image: the picture, in any form (`engine.intake.PictureLike`).
            prompt: what the masked area should show, or the instruction.
            on_progress: called after each step.
            cancelled: asked before each step and at the end; True ends the edit with `Cancelled`.
            **values: further parts of an `EditRequest` (`mask`, `seed`, `references` …), pictures
                and masks in any form; what is no part is an option of the model's family
                (`overpaint models MODEL`), and overrides the same one in `options`.

        Raises:
            OverpaintError: see `overpaint.errors`; bad input is an `InvalidRequest`.
        """
        request = intake.request_of(intake.split({"image": image, "prompt": prompt, **values}))
        return self.run([request], on_progress=on_progress, cancelled=cancelled)[0]

    def run(
        self,
        requests: Sequence[EditRequest | CheckedRequest],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[EditResult]:
        """Run requests together: their steps are mixed, their pictures are as if run alone.

        Raises:
            OverpaintError: of the first request that fails; none is answered then.
        """
        with shortage.mapped(TOO_LARGE):
            return self._run(requests, on_progress, cancelled)

    def _run(
        self,
        requests: Sequence[EditRequest | CheckedRequest],
        on_progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> list[EditResult]:
        edits: list[Edit] = []
        for request in requests:
            held_bytes = sum(edit.held_bytes for edit in edits)
            edits.append(
                self.begin(request, busy=[edit.model for edit in edits], held_bytes=held_bytes)
            )
        for model in {id(edit.model): edit.model for edit in edits}.values():
            self._steps([e for e in edits if e.model is model], on_progress, cancelled)
        results = [self.finish(edit) for edit in edits]
        if cancelled is not None and cancelled():
            raise Cancelled("the edit was cancelled after its last step")
        return results

    def model(self, name: str | None = None, *, busy: Collection[Model] = ()) -> Model:
        """The model of that name, loaded the first time; `busy` ones do not leave for it."""
        return self.models.get(name or self.default_model, busy)

    def load(self, name: str | None = None, *, busy: Collection[Model] = ()) -> None:
        """Load a model whole, not component by component on their first use.

        Raises:
            ModelNotFound, ModelLoadError, OutOfMemory, Overloaded: see `begin`.
        """
        model = self.compute(partial(self.model, name, busy=busy))
        self.models.with_room(model, busy, lambda: self._computed(model.load))

    @property
    def screens(self) -> bool:
        """Whether `screen` has anything to do."""
        return self.policy.checks or self.rewriter is not None or self._locates_aside

    @property
    def _locates_aside(self) -> bool:
        return self.locator is not None and self.locator.waits

    def screen(self, request: EditRequest | CheckedRequest, *, stop: Stop = None) -> Screened:
        """Let the safety policy judge what a caller gives, and what a rewriter makes of the prompt.

        A vision model on another machine is asked here, too, where the thing is that an instruction
        names.

        Args:
            request: what to do.
            stop: called before each check; what it raises ends them.

        Raises:
            ContentBlocked, SafetyUnavailable.
            RewriterUnavailable: the prompt cannot be rewritten.
            LocatorUnavailable: what the instruction names cannot be looked for.
        """
        started = time.perf_counter()
        verdicts = self.policy.check_request(plain_request(request), stop=stop)
        screened = Screened(request, verdicts, {"safety": time.perf_counter() - started})
        if self.rewriter is not None:
            screened = rewriting.rewritten(
                screened, self.rewriter, self.policy, self.default_model, stop
            )
        submission = screened.submission
        if not self._locates_aside or not isinstance(submission, CheckedRequest):
            return screened
        return replace(
            screened, target=location_of_target(self.locator, submission, screened.rewriting)
        )

    def begin(
        self,
        request: EditRequest | CheckedRequest | Screened,
        *,
        busy: Collection[Model] = (),
        held_bytes: int = 0,
    ) -> Edit:
        """Check, plan and prepare: everything before the first step.

        Args:
            request: what to do. One that was checked against its model's family is not checked
                again, and one that was screened is not screened again.
            busy: models of other edits under way, which must not leave memory.
            held_bytes: those that the images of those edits keep during their steps.

        Raises:
            InvalidRequest, ModelNotFound, ModelLoadError, OutOfMemory.
            ContentBlocked, SafetyUnavailable: before anything is encoded.
            Overloaded: busy models leave no room for this one, or the images under way none for
                what its images keep.
        """
        started = time.perf_counter()
        submission = request.submission if isinstance(request, Screened) else request
        model = self.compute(partial(self.model, plain_request(submission).model, busy=busy))
        loading = time.perf_counter() - started
        family = model.family
        checked = (
            submission if isinstance(submission, CheckedRequest) else check(family.spec, submission)
        )
        checked = replace(checked, options=family.settle(checked.options))
        screened = request if isinstance(request, Screened) else self.screen(checked)
        checked = replace(checked, request=plain_request(screened.submission))
        started = time.perf_counter()
        computed = canvas.of(checked.request)
        model_input = self._model_input(checked.request, computed, model, checked.options, busy)
        target = screened.target or location_of_target(self.locator, checked, screened.rewriting)
        if target.place is not None:
            model_input = replace(model_input, target=target.place)
        prepare = partial(self._prepared, model, replace(checked, request=model_input), held_bytes)
        regions, images, more = self.models.with_room(model, busy, partial(self._computed, prepare))
        streams.hand_over(model, images)
        model.release_text_encoders()
        notes = [*unread(family.spec, checked.request), *more, *model.warnings]
        edit = Edit(
            request=checked.request,
            canvas=computed,
            rewriting=screened.rewriting,
            target=target.account,
            model=model,
            seeds=checked.seeds,
            options=checked.options,
            regions=regions,
            prepared=images,
            warnings=[*checked.warnings, *notes, *marks.losses(checked.request.image)],
            verdicts=screened.verdicts,
        )
        edit.timings.update(screened.timings, load=loading)
        edit.timings["prepare"] = time.perf_counter() - started
        return edit

    def step(self, model: Model, images: Sequence[Prepared]) -> None:
        """One denoising step of images that fit one forward pass (`Family.batch_key`).

        The one method that may run in another thread than the rest; it waits while weights load.

        Raises:
            OutOfMemory: together they do not fit.
        """
        self._computed(partial(model.family.advance, images))

    def preview(self, edit: Edit) -> Picture:
        """The picture with the first image's edit as it stands, decoded cheaply.

        Raises:
            ContentBlocked, SafetyUnavailable: nobody may see it.
        """
        return self.deliver_preview(edit, self.decode_preview(edit))

    def decode_preview(self, edit: Edit) -> Decoded:
        """The first half of `preview`: all that the device is needed for."""
        with shortage.mapped(TOO_LARGE), streams.encoding(edit.model):
            picture = self.compute(partial(rendering.unfinished, edit))
        return Decoded((picture,), edit.seeds[:1])

    def deliver_preview(self, edit: Edit, decoded: Decoded) -> Picture:
        """The second half of `preview`: the safety policy, and the mark.

        Raises:
            ContentBlocked, SafetyUnavailable: nobody may see it.
        """
        self._policy(edit.model).check_outputs(decoded.pictures)
        return edit.marked(decoded.pictures[0], self.marking)

    def finish(self, edit: Edit) -> EditResult:
        """Decode, put the original's pixels back, write the recipe: all after the last step.

        Raises:
            ContentBlocked, SafetyUnavailable: of one of the pictures; none is handed over then.
        """
        return self.deliver(edit, self.decode(edit))

    def decode(self, edit: Edit) -> Decoded:
        """The first half of `finish`: all that the device is needed for."""
        with shortage.mapped(TOO_LARGE), streams.encoding(edit.model):
            rendered = self.compute(partial(rendering.finished, edit))
        pictures = tuple(each.picture for each in rendered)
        fidelity = tuple(each.fidelity for each in rendered)
        return Decoded(pictures, edit.seeds, fidelity, tuple(each.output for each in rendered))

    def deliver(self, edit: Edit, decoded: Decoded, *, stop: Stop = None) -> EditResult:
        """The second half of `finish`: the safety policy, recipe and marks.

        Args:
            edit: what `begin` made.
            decoded: what `decode` made of it.
            stop: called before each check; what it raises ends them.

        Raises:
            ContentBlocked, SafetyUnavailable: of one of the pictures; none is handed over then.
        """
        started = time.perf_counter()
        verdicts = (
            *edit.verdicts,
            *self._policy(edit.model).check_outputs(decoded.pictures, stop=stop),
        )
        edit.timings["safety"] += time.perf_counter() - started
        edit.timings["total"] = sum(edit.timings.values())
        recipe = edit.recipe(decoded)
        return EditResult(
            pictures=tuple(
                edit.marked(picture, self.marking, recipes.of_one(recipe, index))
                for index, picture in enumerate(decoded.pictures)
            ),
            seeds=decoded.seeds,
            recipe=recipe,
            measures=decoded.measures,
            timings=dict(edit.timings),
            warnings=(*edit.warnings, *decoded.warnings),
            safety=verdicts or None,
            model_outputs=decoded.model_outputs,
        )

    def _model_input(
        self,
        request: EditRequest,
        computed: EditRequest,
        model: Model,
        options: FamilyOptions,
        busy: Collection[Model],
    ) -> EditRequest:
        """What the model sees: of a picture that grows, a border that goes on as the picture."""
        sees = request.extend is not None and canvas.is_seen(model.family.spec, options)
        if not sees or self.eraser is None:
            return computed
        return canvas.continued(request, computed, self.model(self.eraser, busy=busy).family)

    def _prepared(self, model: Model, checked: CheckedRequest, held_bytes: int) -> EncodedRegions:
        family = model.family
        with streams.encoding(model):
            if images := recalled_images(checked, model):
                regions = windows.of(family, checked.request, checked.options)
                return EncodedRegions(regions, images, [])
            require_spare = partial(self.models.require_spare, held_bytes=held_bytes)
            return windows.prepared(family, checked, require_spare)

    def _computed(self, work: Callable[[], T]) -> T:
        """What work for the device gives.

        Raises:
            OutOfMemory: it does not fit.
        """
        with shortage.mapped(TOO_LARGE):
            return self.compute(work)

    def _steps(
        self,
        edits: Sequence[Edit],
        on_progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        model = edits[0].model
        prepared = [image for edit in edits for image in edit.prepared]
        edit, slowest = max(
            ((edit, image) for edit in edits for image in edit.prepared),
            key=lambda pair: pair[1].total,
        )
        throttle = Throttle(self.clock)

        def report() -> None:
            throttle()
            if on_progress is not None:
                progress = Progress(
                    step=slowest.step,
                    total=slowest.total,
                    preview=partial(self._preview_image, edit, slowest),
                    is_even=slowest.is_even,
                )
                on_progress(progress)

        started = time.perf_counter()
        with shortage.mapped(TOO_LARGE):
            denoise(model.family, prepared, on_step=report, cancelled=cancelled)
            throttle.finish()
        for edit in edits:
            edit.timings["steps"] = time.perf_counter() - started

    def _policy(self, model: Model) -> Policy:
        """What pictures of a model have to pass."""
        return self.policy.with_own_of(model.checkers)

    def _preview_image(self, edit: Edit, prepared: Prepared) -> Image.Image:
        """The canvas of an image as it stands, in sRGB, for those who may see it."""
        family = edit.model.family
        decoded = family.decode(prepared)
        if not family.spec.in_srgb and not edit.request.image.is_grey:
            decoded = edit.request.image.with_rgb(decoded).to_srgb()
        self._policy(edit.model).check_outputs([Picture(decoded)])
        return decoded


def _at_once(work: Callable[[], T]) -> T:
    return work()
