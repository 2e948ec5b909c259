"""What an edit waits for: each safety check, and the signature of its file.

The checkers are real in shape and random in weights: time does not depend on what they know. Azure
AI Content Safety is a server on this machine that answers at once, so its row is what the SDK, the
scaling and the JPEG cost; a real service adds its own time and the network's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import report
from overpaint.apps.wiring import imports
from overpaint.core.imaging import images
from overpaint.core.imaging.images import Picture
from overpaint.provenance import certificates, sealing
from overpaint.provenance.sealing import Seal
from overpaint.safety import azure, blocklist, local

PROMPT = "a lighthouse on a cliff above a calm sea, early morning light, oil on canvas, " * 3
WORDS = 500

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE |= {"intermediate_size": 4096, "image_size": 224, "patch_size": 14}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
BASE |= {"intermediate_size": 3072, "image_size": 224, "patch_size": 16}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TINY |= {"intermediate_size": 16, "image_size": 16, "patch_size": 8}

Measured = tuple[str, str, Callable[[], Any]]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=1024, help="side of the picture")
    parser.add_argument("--small", action="store_true", help="tiny checkers: does it run at all?")
    asked = parser.parse_args()
    imports.quieten()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        service = running.enter_context(local_service())
        measured = list(checks(Path(folder), asked.size, service, small=asked.small))
        rows = [row(*each, asked.rounds) for each in measured]
    size = f"--rounds {asked.rounds} --size {asked.size}{' --small' if asked.small else ''}"
    command = f"python -m benchmarks.safety {size}"
    report.write("safety", "Time that checks and signing add to an edit", command, rows)


def checks(
    folder: Path, side: int, service: azure.ContentSafety, *, small: bool
) -> Iterator[Measured]:
    """What is checked by whom, and the call that does it."""
    picture = noise(side)
    what = f"picture, {side}x{side}"
    words = blocklist.load(word_list(folder), ())
    yield (
        f"blocklist, {WORDS} words",
        f"prompt, {len(PROMPT)} characters",
        lambda: words.check(PROMPT),
    )
    shape, name = (TINY, "tiny") if small else (LARGE, "CLIP ViT-L/14")
    checker = stable_diffusion_checker(folder / "checker", shape)
    yield f"Stable Diffusion's checker, {name}", what, lambda: checker.check(picture)
    shape, name = (TINY, "tiny") if small else (BASE, "ViT-B/16")
    classifier = image_classifier(folder / "classifier", shape)
    yield f"transformers classifier, {name}", what, lambda: classifier.check(picture)
    texts, pictures = azure.AzureText(service, ()), azure.AzureImages(service)
    yield "Azure, server on this machine", "prompt", lambda: texts.check(PROMPT)
    yield "Azure, server on this machine", what, lambda: pictures.check(picture)
    signer = sealing.load_signer(*certificates.make(folder / "pem", "benchmark"))
    seal = Seal(signer=signer, tool=("-", "-"), source_type="humanEdits", parameters={})
    plain = images.encode(Picture(picture))
    parent = images.encode(Picture(picture, seal=seal))
    again = Seal(
        signer=signer,
        tool=("-", "-"),
        source_type="humanEdits",
        parameters={},
        parent=(parent, "PNG"),
    )
    yield "content credentials", f"PNG, {side}x{side}", lambda: seal.sign(plain, "PNG")
    yield (
        "content credentials, signed input",
        f"PNG, {side}x{side}",
        lambda: again.sign(plain, "PNG"),
    )


def row(who: str, what: str, call: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Median and slowest of the rounds, after one that does not count.

    The processor's time, of all threads together, tells more where a machine is shared.
    """
    call()
    taken, worked = [], []
    for _ in range(rounds):
        started, before = time.perf_counter(), time.process_time()
        call()
        taken.append((time.perf_counter() - started) * 1e3)
        worked.append((time.process_time() - before) * 1e3)
    return {
        "who": who,
        "what": what,
        "median ms": f"{statistics.median(taken):.2f}",
        "slowest ms": f"{max(taken):.2f}",
        "processor ms": f"{statistics.median(worked):.2f}",
    }


def noise(side: int) -> Image.Image:
    """A picture that compresses badly, as photos do."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def word_list(folder: Path) -> Path:
    """A blocklist whose words are not in the prompt."""
    words = ", ".join(f'"forbidden word {number}"' for number in range(WORDS))
    file = folder / "words.toml"
    file.write_text(f"[[lists]]\nwords = [{words}]\n", encoding="utf-8")
    return file


def stable_diffusion_checker(folder: Path, shape: dict[str, int]) -> local.StableDiffusionChecker:
    """Random weights."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    config = CLIPConfig(vision_config=shape, projection_dim=min(768, shape["hidden_size"]))
    StableDiffusionSafetyChecker(config).save_pretrained(folder)
    return local.StableDiffusionChecker(folder)


def image_classifier(folder: Path, shape: dict[str, int]) -> local.Classifier:
    """Random weights, two labels."""
    from transformers import ViTConfig, ViTForImageClassification

    labels = {"id2label": {0: "fine", 1: "bad"}, "label2id": {"fine": 0, "bad": 1}}
    ViTForImageClassification(ViTConfig(**shape, **labels)).save_pretrained(folder)
    told = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    return local.Classifier(folder, {"bad": "sexual"}, 0.5)


@contextmanager
def local_service() -> Iterator[azure.ContentSafety]:
    """The SDK, and the server of its tests."""
    from tests.safety.test_azure import Azure

    server = Azure()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield azure.ContentSafety(server.url, key="key", client_id=None, timeout_s=10)
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
