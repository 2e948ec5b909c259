"""Flex.2 and Kontext at 1024x1024: kinds of edits, plain and as it comes, beside diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from PIL import Image

from benchmarks.performance import peers
from benchmarks.performance.proof import models
from benchmarks.performance.proof.bench import AS_IT_COMES, Bench, apart
from benchmarks.performance.proof.journal import Row
from overpaint.engine.engine import Engine

GUIDANCE = 2.5
MOST_APART = 2.0
"""Grey levels that Kontext's picture may differ from diffusers' on average, in bfloat16."""

COMPILED_APART = 1.0
"""Grey levels that compiled blocks may change a picture on average."""

SPARSE = {"window": "full", "refresh_every": 6}
FAST = {"window": "full", "preset": "fast"}


@dataclass(frozen=True)
class Case:
    """A kind of edit.

    Attributes:
        name: in the table.
        before: seconds measured before this was built.
        goal: seconds hoped for.
        share: of the picture that is masked; None = no mask.
        options: of the edit.
        sparse: whether its typical step leaves something out.
        plain: whether it is measured as torch runs it too.
    """

    name: str
    before: float | str = ""
    goal: float | None = None
    share: float | None = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)
    sparse: bool = False
    plain: bool = False


FLEX2 = (
    Case("whole picture", 4.27, 2.9, options={"window": "full"}, plain=True),
    Case("10 % mask, its window, context 0.25", 4.21, 1.0, options={"context": 0.25}, plain=True),
    Case("10 % mask, its window, default context", 4.21),
    Case("10 % mask, sparse", 2.14, 1.3, options=SPARSE, sparse=True, plain=True),
    Case("10 % mask, fast", 1.43, 1.0, options=FAST, sparse=True),
)
KONTEXT = (
    Case("whole picture", 10.61, 7.5, share=None, plain=True),
    Case("20 % mask, its window, context 0.25", 10.63, share=0.2, options={"context": 0.25}),
    Case("20 % mask, sparse", 3.97, 2.7, 0.2, SPARSE, sparse=True, plain=True),
    Case("20 % mask, fast", 3.08, 2.1, 0.2, FAST, sparse=True),
    Case("reference kept, refresh 3", 7.83, 5.5, None, {"refresh_every": 3}, sparse=True),
)
TEXT_FROZEN = {"freeze_text": True}
"""An option of some versions: text tokens rest in sparse steps."""

FLOAT8_GOALS = {"flex2": 2.3, "kontext": 6.0}
FLOAT8_APART = 0.1
"""Relative error of a prediction in float8 beside bfloat16, random weights."""


def flex2(bench: Bench) -> None:
    """Every kind of edit, plain and as it comes."""
    _family(bench, "flex2", FLEX2)


def kontext(bench: Bench) -> None:
    """Diffusers once, then every kind of edit, plain and as it comes."""
    theirs, picture = _diffusers(bench)
    bench.journal.add("diffusers, whole picture", **{"diffusers s": round(theirs, 3)})
    _family(bench, "kontext", KONTEXT, {"whole picture": (theirs, picture)})


def float8(bench: Bench) -> None:
    """Whole pictures in float8, and how far a prediction is from bfloat16's."""
    for family, cases in (("flex2", FLEX2), ("kontext", KONTEXT)):
        chosen = [case for case in cases if case.name == "whole picture" or case.sparse][:2]
        expected = None
        with bench.engine(family) as engine:
            expected = _prediction(bench, engine, family)
        with bench.engine(family, AS_IT_COMES, backend="torch-float8") as engine:
            found = _prediction(bench, engine, family)
            error = float((found - expected).norm() / expected.norm())
            missed = " MISSED" if error > FLOAT8_APART else ""
            gate = f"relative error {error:.3f}, at most {FLOAT8_APART}{missed}"
            bench.journal.add(f"{family}: a prediction", gate=gate)
            for case in chosen:
                goal = FLOAT8_GOALS[family] if case.name == "whole picture" else None
                work = _Edited(bench, engine, family, replace(case, goal=goal, before=""))
                bench.journal.attempt(f"{family}, float8: {case.name}", work)


def new_sizes(bench: Bench) -> None:
    """What the first edit of a size costs more than the second."""
    steps = {"num_inference_steps": 4}
    sparse = [(f"{share:.1%} mask, sparse", share, SPARSE) for share in (0.071, 0.113, 0.187)]
    windows = [(f"{share:.1%} mask, its window", share, {}) for share in (0.012, 0.053)]
    with bench.engine("flex2", AS_IT_COMES) as engine:
        bench.warm(engine, bench.request("flex2", 0.1, **SPARSE))
        for name, share, options in (*sparse, *windows):
            request = bench.request("flex2", share, **options, **steps)
            bench.journal.attempt(name, partial(_first, bench, engine, request))


def autoencoder(bench: Bench) -> None:
    """Encoding and decoding one picture, plain, in tiles and compiled."""
    with bench.engine("flex2") as engine, torch.inference_mode():
        vae = engine.model().checkpoint.component("vae")  # type: ignore[union-attr]
        side = bench.side("flex2")
        pixels = torch.rand(1, 3, side, side, device=bench.device).to(vae.dtype) * 2 - 1
        small = vae.encode(pixels).latent_dist.mode()
        plain = vae.decode(small).sample
        kinds = {
            "encode": lambda: vae.encode(pixels).latent_dist.mode(),
            "decode": lambda: vae.decode(small).sample,
        }
        for name, work in kinds.items():
            bench.journal.attempt(f"{name}, plain", partial(_coded, bench, work))
        encoder, decoder = vae.encoder, vae.decoder
        vae.encoder, vae.decoder = torch.compile(encoder), torch.compile(decoder)
        for name, work in kinds.items():
            expected = plain if name == "decode" else None
            bench.journal.attempt(f"{name}, compiled", partial(_coded, bench, work, expected))
        vae.encoder, vae.decoder = encoder, decoder
        vae.enable_tiling()
        bench.journal.attempt("decode, in tiles", partial(_coded, bench, kinds["decode"], plain))


def equal_edits(bench: Bench) -> None:
    """The same edit twice, in engines of their own."""
    for family, share in (("sd2", 0.2), ("flex2", 0.1)):
        request = bench.request(family, share, num_inference_steps=4)
        pictures = []
        for _ in range(2):
            bench.journal.check()
            with bench.engine(family) as engine:
                pictures.append(bench.edit(engine, request).tobytes())
        same = pictures[0] == pictures[1]
        bench.journal.add(family, gate="equal, byte for byte" if same else "NOT EQUAL")


def _family(
    bench: Bench,
    family: str,
    cases: Sequence[Case],
    peers_of: Mapping[str, tuple[float, Image.Image]] | None = None,
) -> None:
    """Rows of a family, with seconds and picture of a peer for some kinds of edits."""
    pictures: dict[str, Image.Image] = {}
    with bench.engine(family) as engine:
        for case in (*(each for each in cases if each.plain), *_frozen(engine, cases)):
            work = _Edited(bench, engine, family, case, peer=(peers_of or {}).get(case.name))
            if bench.journal.attempt(f"plain: {case.name}", work):
                pictures[case.name] = work.pictures[0]
    with bench.engine(family, AS_IT_COMES) as engine:
        first = bench.request(family, cases[0].share, **cases[0].options, num_inference_steps=2)
        cold = bench.clock.seconds(lambda: bench.edit(engine, first))
        rest = bench.clock.seconds(partial(bench.warm, engine, first))
        note = f"then {rest:.1f} s until all is compiled"
        bench.journal.add("as it comes: first two steps", **{"ours s": round(cold, 2)}, note=note)
        for case in cases:
            work = _Edited(bench, engine, family, case, plain=pictures.get(case.name))
            bench.journal.attempt(f"as it comes: {case.name}", work)


def _frozen(engine: Engine, cases: Sequence[Case]) -> list[Case]:
    """The sparse kind with its text frozen, where this version of Overpaint can do that."""
    if not TEXT_FROZEN.keys() <= engine.model().family.spec.options.model_fields.keys():
        return []
    sparse = next(case for case in cases if case.sparse)
    options = {**sparse.options, **TEXT_FROZEN}
    return [Case(f"{sparse.name}, text frozen", share=sparse.share, options=options, sparse=True)]


@dataclass(frozen=True)
class _Edited:
    """Measures one kind of edit: the whole of it, and its typical step.

    Attributes:
        bench, engine, family, case: what and where.
        plain: the picture as torch makes it, which this one is compared with.
        peer: diffusers' seconds and picture.
        pictures: gets the picture.
    """

    bench: Bench
    engine: Engine
    family: str
    case: Case
    plain: Image.Image | None = None
    peer: tuple[float, Image.Image] | None = None
    pictures: list[Image.Image] = field(default_factory=list)

    def __call__(self) -> Row:
        bench, case = self.bench, self.case
        request = bench.request(self.family, case.share, **case.options, **self._sizes())
        bench.clock.reset_peak()
        row, picture = bench.whole(self.engine, request)
        row |= {"before s": case.before, "peak GB": bench.clock.peak()}
        self.pictures.append(picture)
        if case.goal is not None:
            row |= bench.goal(row["ours s"], case.goal)
        row |= bench.steps_of(self.engine, [request], sparse=case.sparse)
        row["note"] = bench.plan(self.engine, request)
        if self.peer is not None:
            row["diffusers s"] = round(self.peer[0], 3)
            row["gate"] = _gate(picture, self.peer[1], "diffusers", MOST_APART)
        elif self.plain is not None:
            row["gate"] = _gate(picture, self.plain, "plain", COMPILED_APART)
        return row

    def _sizes(self) -> dict[str, Any]:
        """Kontext's whole picture, exactly as diffusers is asked for it."""
        if self.family == "flex2" or self.case.share is not None or self.case.sparse:
            return {}
        side = self.bench.side(self.family)
        return {"height": side, "width": side, "composite": False, "guidance_scale": GUIDANCE}


def _gate(picture: Image.Image, other: Image.Image, whose: str, most: float) -> str:
    distance = apart(picture, other)
    return f"{distance:.2f} of 255 from {whose}, at most {most}{' MISSED' * (distance > most)}"


def _prediction(bench: Bench, engine: Engine, family: str) -> torch.Tensor:
    """The network's first prediction of a whole picture, float32 on the processor."""
    share = 0.1 if family == "flex2" else None
    edit = engine.begin(bench.request(family, share, window="full"))
    family_of_model: Any = edit.model.family
    checkpoint = edit.model.checkpoint
    assert checkpoint is not None
    with torch.inference_mode(), checkpoint.borrowed("transformer"):
        return family_of_model.predict(edit.prepared).float().cpu()  # type: ignore[no-any-return]


def _first(bench: Bench, engine: Engine, request: Any) -> Row:
    first, second = (bench.clock.seconds(lambda: bench.edit(engine, request)) for _ in range(2))
    return {
        "ours s": round(first, 3),
        **bench.goal(first - second, 0.15),
        "note": f"{first - second:.3f} s more than the second, {bench.plan(engine, request)}",
    }


def _coded(bench: Bench, work: Any, expected: torch.Tensor | None = None) -> Row:
    bench.journal.check()
    bench.clock.reset_peak()
    first = bench.clock.seconds(work)
    row: Row = {
        "device ms": round(1e3 * bench.clock.median(work), 2),
        "peak GB": bench.clock.peak(),
        "first s": round(first, 2),
    }
    if expected is not None:
        difference = float((work() - expected).abs().max()) * 127.5
        row["gate"] = f"{difference:.1f} of 255 from plain at most"
    return row


def _diffusers(bench: Bench) -> tuple[float, Image.Image]:
    """Seconds of diffusers' edit without a mask with the same weights, and its picture."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxKontextPipeline,
        FluxTransformer2DModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

    where = models.folder(bench.root, "kontext", tiny=bench.tiny)
    kinds = {
        "transformer": FluxTransformer2DModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": T5EncoderModel,
    }
    pipeline = FluxKontextPipeline(
        **{
            name: models.network(where, name, kind, torch.bfloat16, bench.device)
            for name, kind in kinds.items()
        },
        tokenizer=CLIPTokenizer.from_pretrained(where / "tokenizer"),
        tokenizer_2=T5TokenizerFast.from_pretrained(where / "tokenizer_2"),
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(where / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    side = bench.side("kontext")

    def run(steps: int) -> Image.Image:
        return pipeline(  # type: ignore[no-any-return]
            image=peers.picture(side),
            prompt=peers.PROMPT,
            width=side,
            height=side,
            max_area=side * side,
            _auto_resize=False,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(0),
        ).images[0]

    run(2)
    pictures: list[Image.Image] = []
    seconds = bench.clock.seconds(lambda: pictures.append(run(bench.steps("kontext"))))
    for name in kinds:
        setattr(pipeline, name, None)
    bench.clock.forget()
    return seconds, pictures[0]
