from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from overpaint.core.imaging.detections import Detection
from overpaint.core.imaging.images import Picture
from overpaint.datasets import exact, gate, measure
from overpaint.datasets.recipes.sections import Exact, Gate
from tests.datasets.conftest import noisy


def test_issues_are_found() -> None:
    fine = noisy(1, (96, 96))
    assert measure.issues(fine) == []
    assert "dark" in measure.issues(Image.eval(fine, lambda value: value // 8))
    assert "light" in measure.issues(Image.new("RGB", (64, 64), "white"))
    bump = np.sin(np.linspace(0, np.pi, 256))
    hill = (255 * bump[:, None] * bump[None, :]).astype(np.uint8)
    assert "blurry" in measure.issues(Image.fromarray(hill).convert("RGB"))
    assert "odd_aspect_ratio" in measure.issues(noisy(1, (200, 40)))
    assert "grayscale" in measure.issues(fine.convert("L").convert("RGB"))
    assert "low_information" in measure.issues(Image.new("RGB", (64, 64), (200, 40, 90)))


def test_near_duplicates() -> None:
    first = noisy(1, (96, 96))
    again = Image.eval(first, lambda value: min(255, value + 3))
    own = measure.hashes(first)
    assert measure.distance(own, measure.hashes(again)) <= 4
    assert measure.distance(own, measure.hashes(noisy(2, (96, 96)))) > 12
    kept = measure.Neighbours()
    assert kept.nearest(own, 4) is None
    for number in range(2, 40):
        kept.add(str(number), measure.hashes(noisy(number, (32, 32))))
        if number == 5:
            kept.add("twin", measure.hashes(again))
    assert kept.nearest(own, 4) == "twin"
    assert kept.nearest(measure.hashes(noisy(77, (96, 96))), 0) is None


def test_many_neighbours() -> None:
    kept = measure.Neighbours()
    for number in range(2500):
        kept.add(str(number), f"{number << 40:016x}-{0:011x}")
    assert kept.nearest(f"{2400 << 40:016x}-{0:011x}", 0) == "2400"


def test_the_same_shape_in_another_colour_is_no_duplicate() -> None:
    def disc(colour: str) -> str:
        picture = Image.new("RGB", (96, 96), (150, 150, 150))
        ImageDraw.Draw(picture).ellipse((20, 20, 76, 76), fill=colour)
        return measure.hashes(picture)

    assert measure.distance(disc("red"), disc("blue")) == 64
    assert measure.distance(disc("red"), disc("red")) == 0


@pytest.mark.parametrize("target", [0.2, 0.45, 0.8])
@pytest.mark.parametrize("level", [60, 128, 200])
def test_exposure_reaches_its_target(level: int, target: float) -> None:
    pixels = np.asarray(noisy(3, level=level))
    reached = measure.luma_of(exact.to_exposure(pixels, target)).mean()
    assert abs(float(reached) - target) < 0.01


def test_exposure_keeps_black_and_white_and_order() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    bright = exact.to_exposure(ramp, 0.7)[0, :, 0].astype(int)
    assert (bright[0], bright[-1]) == (0, 255)
    assert (np.diff(bright) >= 0).all()


@pytest.mark.parametrize("target", [0.2, 0.8])
def test_exposure_of_black_and_white_moves_what_it_must(target: float) -> None:
    split = np.zeros((8, 8, 3), np.uint8)
    split[:4] = 255
    made = exact.to_exposure(split, target)
    assert abs(float(measure.luma_of(made).mean()) - target) < 0.01
    assert int(made[0, 0, 0]) - int(made[7, 0, 0]) > 90
    assert 255 in made or 0 in made


@pytest.mark.parametrize(("level", "said"), [(0, "black"), (255, "white")])
def test_a_frame_without_content_stays(level: int, said: str) -> None:
    frame = Image.new("RGB", (32, 32), (level,) * 3)
    frame.putpixel((3, 3), (128, 128, 128))
    made, note = exact.apply(Picture(frame), Exact(exposure=0.45))
    assert abs(int(np.median(np.asarray(made.rgb))) - level) < 50
    assert f"is {said}" in note
    assert exact.apply(Picture(noisy(3)), Exact(exposure=0.45))[1] == ""


def test_contrast_reaches_its_target() -> None:
    pixels = np.asarray(noisy(3))
    changed = measure.luma_of(exact.to_contrast(pixels, 0.05))
    assert abs(float(changed.std()) - 0.05) < 0.005
    assert abs(float(changed.mean()) - float(measure.luma_of(pixels).mean())) < 0.01
    flat = np.full((4, 4, 3), 90, np.uint8)
    assert (exact.to_contrast(flat, 0.2) == flat).all()


def test_operations_keep_what_a_picture_carries() -> None:
    alpha = Image.new("L", (48, 48), 77)
    picture = Picture(noisy(3), alpha=alpha, exif=b"e", xmp=b"x")
    made, _ = exact.apply(picture, Exact(exposure=0.6, contrast=0.1, clahe=2))
    assert (made.alpha, made.exif, made.xmp, made.size) == (alpha, b"e", b"x", (48, 48))
    assert measure.changed_share(picture.rgb, made.rgb) > 0.5


def with_disc(image: Image.Image) -> Image.Image:
    made = image.copy()
    ImageDraw.Draw(made).ellipse((8, 8, 30, 30), fill=(220, 20, 20))
    return made


def inside() -> Image.Image:
    mask = Image.new("L", (48, 48))
    mask.paste(255, (6, 6, 32, 32))
    return mask


def judged(after: Image.Image, rules: Gate, **others: object) -> tuple[str, ...]:
    before = Picture(noisy(5))
    others = {"changed": rules.changed or (0.0005, 0.9), **others}
    return gate.judge(before, Picture(after), rules, **others).reasons  # type: ignore[arg-type]


def test_the_gate_lets_a_good_edit_pass() -> None:
    rules = Gate(kept_psnr=40, gone=True)
    assert judged(with_disc(noisy(5)), rules, expected=inside(), found_again=[]) == ()


@pytest.mark.parametrize(
    ("after", "rules", "others", "said"),
    [
        (noisy(5), Gate(), {}, "nothing changed"),
        (noisy(6), Gate(), {}, "too much changed"),
        (noisy(5, (40, 40)), Gate(), {}, "the size changed"),
        (with_disc(noisy(6)), Gate(changed=(0, 1), kept_psnr=30), {"expected": inside()}, "dB"),
        (
            Image.eval(with_disc(noisy(5)), lambda value: value // 9),
            Gate(changed=(0, 1)),
            {},
            "new issues: dark",
        ),
        (
            with_disc(noisy(5)),
            Gate(gone=True),
            {"found_again": [Detection(box=(0, 0, 5, 5), label="cat")]},
            "still there: cat",
        ),
    ],
)
def test_the_gate_says_why_not(
    after: Image.Image, rules: Gate, others: dict[str, object], said: str
) -> None:
    assert any(said in reason for reason in judged(after, rules, **others))
