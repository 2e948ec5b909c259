"""Every way in, one entry each: how a forbidden prompt is sent, and what the answer must be."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import overpaint
from overpaint import blocks
from overpaint.apps import settings as settings_
from overpaint.apps.azure import scoring
from overpaint.apps.cli.commands import app
from overpaint.apps.wiring import sessions
from overpaint.core.errors import ContentBlocked
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.engine.batching.batcher import Batcher
from overpaint.jobs import rows, tables
from overpaint.sessions import Editor
from tests.apps.server.conftest import b64, from_b64, png
from tests.apps.server.conftest import edit as native_body
from tests.apps.server.protocols.test_oip import inputs, tensor
from tests.apps.server.protocols.test_openai import transparent_mask
from tests.conftest import box_mask, picture
from tests.safety.conftest import BAD

FEW = {"num_inference_steps": 2}
SAID = "the safety policy refuses the prompt (violence)"
SIDE = 64


@dataclass
class Desk:
    """Where requests come from: a folder with pictures, and a server that `serve` starts once."""

    folder: Path
    serve: Callable[[], Any]

    @property
    def http(self) -> Any:
        """The server's client."""
        return self.serve().client

    def command(self, *words: object) -> Any:
        """The command line, in the folder."""
        return CliRunner().invoke(app, [str(each) for each in words])


@dataclass(frozen=True)
class Way:
    """A way in.

    Attributes:
        name: of the test.
        ask: sends `BAD` as a prompt; gives what came back.
        check: fails unless that is the refusal of this interface.
    """

    name: str
    ask: Callable[[Desk], Any]
    check: Callable[[Any], None]


def photo() -> Image.Image:
    return picture(SIDE, SIDE)


def mask() -> Image.Image:
    return box_mask(SIDE, SIDE)


# Library, batcher, blocks and sessions raise.


def raised(call: Callable[[Desk], Any]) -> Callable[[Desk], ContentBlocked]:
    def ask(desk: Desk) -> ContentBlocked:
        with pytest.raises(ContentBlocked) as blocked:
            call(desk)
        return blocked.value

    return ask


def is_typed(error: ContentBlocked, stage: str = "prompt") -> None:
    assert (error.stage, error.category) == (stage, "violence")
    assert error.message == SAID.replace("prompt", stage.replace("_", " "))


def library(desk: Desk, model: str, **words: str) -> None:
    overpaint.load(model).edit(photo(), mask=mask(), **words, **FEW)


def request() -> EditRequest:
    return EditRequest(image=Picture.from_pil(photo()), prompt=BAD, mask=mask(), options=FEW)


def batcher(desk: Desk) -> None:
    running = Batcher(overpaint.load())
    try:
        running.submit(request()).result(60)
    finally:
        running.close()


def session(desk: Desk) -> None:
    settings = settings_.load()
    editor = Editor.with_engine(overpaint.load(), store=sessions.store(settings))
    begun = editor.new(photo())
    try:
        editor.edit(begun.id, BAD, mask=mask(), **FEW)
    finally:
        assert len(editor.store.get(begun.id).turns) == 1


RAISING = [
    *(
        Way(
            f"library {model} {stage}",
            raised(partial(library, model=model, **{"prompt": "x", stage: BAD})),
            partial(is_typed, stage=stage),
        )
        for model in ("my-sd2", "my-flex2", "my-kontext")
        for stage in ("prompt", "negative_prompt")
    ),
    Way("run", raised(lambda _: overpaint.load().run([request()])), is_typed),
    Way("batcher", raised(batcher), is_typed),
    Way("session", raised(session), is_typed),
    *(
        Way(
            f"block {paint.__name__}",
            raised(lambda _, paint=paint: paint(photo(), mask(), prompt=BAD, **FEW)),
            is_typed,
        )
        for paint in (blocks.sd2_inpainting, blocks.flex2_inpainting)
    ),
    Way(
        "block kontext_edit",
        raised(lambda _: blocks.kontext_edit(photo(), prompt=BAD, **FEW)),
        is_typed,
    ),
]

# The command line says so; batches and data sets mark the row.


def says_so(done: Any) -> None:
    assert done.exit_code == 2
    assert SAID in done.stderr
    assert BAD not in done.stderr


def edit_command(desk: Desk, command: str) -> Any:
    done = desk.command(command, "photo.png", BAD, "--mask", "mask.png")
    assert sorted(each.name for each in desk.folder.glob("*.png")) == ["mask.png", "photo.png"]
    return done


def session_command(desk: Desk) -> Any:
    assert desk.command("session", "new", "photo.png").exit_code == 0
    few = ("-O", "num_inference_steps=2")
    done = desk.command("session", "edit", "photo", BAD, "-m", "mask.png", "-M", "my-sd2", *few)
    shown = desk.command("session", "list", "--json")
    (found,) = json.loads(shown.stdout)["sessions"]
    assert found["head"] == "0", found
    return done


def batch(desk: Desk) -> Any:
    row = {"image": "photo.png", "mask": "mask.png", "prompt": BAD}
    (desk.folder / "rows.jsonl").write_text(json.dumps(row))
    done = desk.command("batch", "rows.jsonl", "-o", "out", "--model", "my-sd2", "--json")
    assert not list((desk.folder / "out").rglob("*.png"))
    with (desk.folder / "out" / "predictions.csv").open(newline="") as file:
        (predicted,) = csv.DictReader(file)
    return done, predicted


def row_is_marked(answer: Any) -> None:
    done, predicted = answer
    told = json.loads(done.stdout)
    assert (told["blocked"], told["done"], told["errors"]) == (1, 0, {"content_blocked": 1})
    assert predicted["status"] == "blocked"
    assert SAID in predicted["reason"]


def data_set(desk: Desk, task: str, recipe: dict[str, Any]) -> Any:
    (desk.folder / "in").mkdir()
    photo().save(desk.folder / "in" / "a.png")
    whole = {"model": "my-sd2", "sources": [{"folder": "in"}], **recipe}
    (desk.folder / "recipe.yaml").write_text(json.dumps(whole))  # JSON is YAML
    done = desk.command(task, "recipe.yaml", "-o", "out", "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def attempts_are_blocked(told: dict[str, Any]) -> None:
    assert told["kept"] == 0
    assert told["errors"].keys() == {"content_blocked"}


BOX = {"box": [0.2, 0.2, 0.8, 0.8]}

COMMANDS = [
    Way("overpaint inpaint", partial(edit_command, command="inpaint"), says_so),
    Way("overpaint edit", partial(edit_command, command="edit"), says_so),
    Way("overpaint session", session_command, says_so),
    Way("overpaint batch", batch, row_is_marked),
    Way(
        "overpaint collect",
        partial(
            data_set,
            task="collect",
            recipe={
                "prompt": BAD + " {colour}",
                "axes": {"colour": ["red"]},
                "quota": 1,
                "tries": 1,
                "mask": BOX,
                "options": FEW,
            },
        ),
        attempts_are_blocked,
    ),
    Way(
        "overpaint clean",
        partial(
            data_set,
            task="clean",
            recipe={"edit": {"prompt": BAD, "mask": BOX}, "options": FEW},
        ),
        attempts_are_blocked,
    ),
]

# Each protocol has its own refusal.


def native(answer: Any) -> None:
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "code": "content_blocked",
        "message": SAID,
        "stage": "prompt",
        "category": "violence",
    }


def native_later(desk: Desk) -> Any:
    body = native_body(model="my-sd2", prompt=BAD)
    later = desk.http.post("/v1/edits", json=body, headers={"prefer": "respond-async"})
    job = f"/v1/edits/{later.json()['id']}"
    desk.serve().until(lambda: desk.http.get(job).json()["status"] in ("failed", "done"))
    return desk.http.get(job).json()["error"]


def told_later(error: dict[str, Any]) -> None:
    assert (error["code"], error["stage"]) == ("content_blocked", "prompt")


def session_turn(desk: Desk) -> Any:
    begun = desk.http.post("/v1/sessions", json={"name": "x", "image": b64(photo())}).json()
    turn = {"model": "my-sd2", "prompt": BAD, "mask": b64(mask()), "options": FEW, "async": False}
    where = f"/v1/sessions/{begun['id']}"
    answer = desk.http.post(f"{where}/turns", json={**turn, "revision": begun["revision"]})
    assert len(desk.http.get(where).json()["turns"]) == 1
    return answer


def openai(desk: Desk, path: str = "/v1/images/edits", **more: str) -> Any:
    files = {"image": png(photo()), "mask": png(transparent_mask())}
    return desk.http.post(path, data={"model": "my-sd2", "prompt": BAD, **more}, files=files)


def moderation_blocked(error: dict[str, Any]) -> None:
    assert error["code"] == "moderation_blocked"
    assert error["type"] == "image_generation_user_error"
    assert "safety_violations=[violence]" in error["message"]


def openai_refusal(answer: Any) -> None:
    assert answer.status_code == 400
    moderation_blocked(answer.json()["error"])


def openai_event(answer: Any) -> None:
    """A stream has begun before anything is checked: its only event is the error."""
    (line,) = [each for each in answer.text.splitlines() if each.startswith("data: ")]
    moderation_blocked(json.loads(line.removeprefix("data: "))["error"])


def open_inference(desk: Desk) -> Any:
    given = [each for each in inputs() if each["name"] != "prompt"]
    body = {"inputs": [*given, tensor("prompt", BAD)]}
    return desk.http.post("/v2/models/my-sd2/infer", json=body)


def open_inference_refusal(answer: Any) -> None:
    assert answer.status_code == 400
    assert answer.json() == {"error": SAID}


def contract_row() -> dict[str, str]:
    return {"prompt": BAD, "image": b64(photo()), "mask_image": b64(mask())}


def azure(desk: Desk, path: str) -> Any:
    answer = desk.http.post(path, json={"input_data": [contract_row()], "params": FEW})
    assert answer.status_code == 200, answer.text
    return answer.json()


def azure_csv(desk: Desk) -> Any:
    table = io.StringIO(newline="")
    lines = csv.DictWriter(table, list(contract_row()))
    lines.writeheader()
    lines.writerow(contract_row())
    answer = desk.http.post(
        "/score", content=table.getvalue(), headers={"content-type": "text/csv"}
    )
    return answer.json()


def scored(desk: Desk) -> Any:
    """As Azure ML's entry script and the MLflow model ask, without HTTP."""
    scorer = scoring.Scorer("my-sd2", settings_.load())
    try:
        body = json.dumps({"input_data": [contract_row()], "params": FEW})
        given = rows.parse_table(tables.from_json(body), most=1)
        return [outcome.answer() for outcome in scorer.score(given)]
    finally:
        scorer.close()


def black_and_flagged(answered: list[dict[str, Any]]) -> None:
    (row,) = answered
    assert row["nsfw_content_detected"] is True
    black = from_b64(row["generated_image"])
    assert black.size == (SIDE, SIDE)
    assert not np.asarray(black).any()


PROTOCOLS = [
    Way(
        "/v1/edits",
        lambda desk: desk.http.post("/v1/edits", json=native_body(model="my-sd2", prompt=BAD)),
        native,
    ),
    Way("/v1/edits later", native_later, told_later),
    Way("/v1/sessions", session_turn, native),
    Way("/v1/images/edits", openai, openai_refusal),
    Way("/v1/images/edits streamed", partial(openai, stream="true"), openai_event),
    Way(
        "/openai/deployments",
        partial(openai, path="/openai/deployments/my-sd2/images/edits"),
        openai_refusal,
    ),
    Way("/v2/models", open_inference, open_inference_refusal),
    Way("/score", partial(azure, path="/score"), black_and_flagged),
    Way("/score csv", azure_csv, black_and_flagged),
    Way(
        "/invocations",
        lambda desk: azure(desk, "/invocations")["predictions"],
        black_and_flagged,
    ),
    Way("azure entry script", scored, black_and_flagged),
]


WAYS = [*RAISING, *COMMANDS, *PROTOCOLS]
