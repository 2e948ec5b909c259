"""Sessions as a library, with tiny random checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from overpaint.core.errors import ContentBlocked, InvalidRequest, SessionConflict
from overpaint.core.imaging import images
from overpaint.core.imaging.fidelity.layer import EditLayer
from overpaint.core.imaging.images import Picture
from overpaint.families.flux1 import kontext
from overpaint.provenance import recipes
from overpaint.safety.policy import Policy
from overpaint.sessions import Editor
from overpaint.sessions.judges.judging import Judgement, JudgeUnavailable
from overpaint.sessions.measuring import Examiner
from tests import faulty_family
from tests.conftest import box_mask, picture
from tests.faults import Fault

FEW = {"num_inference_steps": 2}
SIDE = 64


@pytest.fixture
def engine(make_engine):
    return make_engine("kontext")


@pytest.fixture
def editor(store, engine):
    return Editor.with_engine(engine, store=store)


@pytest.fixture
def session(editor):
    return editor.new(picture(SIDE, SIDE), "kite")


def half_changed(self, request, options, plan, prepared, edited):
    """Instead of what a random checkpoint changed, a part of the picture that moves each turn."""
    alpha = request.mask
    if alpha is None:
        left = 4 + 3 * (prepared.seed % 10)
        alpha = box_mask(*request.image.size, box=(left, 8, left + 20, 40))
    return EditLayer(edited=edited, alpha=alpha)


def taken_whole(self, request, options, plan, prepared, edited):
    return EditLayer(edited=edited)


def rgb(editor, turn) -> np.ndarray:
    return np.asarray(editor.picture(turn).rgb)


class TestNoDrift:
    """Where no turn changed anything, ten turns leave every byte as it was."""

    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_ten_turns(self, editor, monkeypatch, mode):
        monkeypatch.setattr(kontext.Kontext, "place", half_changed)
        start = picture(SIDE, SIDE).convert(mode)
        session = editor.new(start)
        touched = np.zeros((SIDE, SIDE), bool)
        for number in range(10):
            box = (30 + number, 44, 40 + number, 52)
            masked = {"mask": box_mask(SIDE, SIDE, box=box)} if number % 3 == 2 else {}
            session, turn = editor.edit(session.id, "a cat", seed=number, **FEW, **masked)
            left = 4 + 3 * number
            area = box if masked else (left, 8, left + 20, 40)
            touched |= np.asarray(box_mask(SIDE, SIDE, box=area)) > 0
            now = rgb(editor, turn)
            assert (now[~touched] == np.asarray(start.convert("RGB"))[~touched]).all()
        assert 0.2 < touched.mean() < 0.6
        assert (now[touched] != np.asarray(start.convert("RGB"))[touched]).any(axis=1).mean() > 0.9
        assert len(session.turns) == 11

    def test_a_loop_that_keeps_nothing_is_noticed(self, editor, session):
        for number in range(2):
            session, turn = editor.edit(session.id, "a cat", seed=number, composite=False, **FEW)
        assert turn.measures["original"]["changed"] > 0.9
        assert turn.verdict == "everything_changed"
        assert any("Most of the picture changed" in warning for warning in turn.warnings)


class TestFromOriginal:
    def test_all_instructions_edit_the_first_picture(self, editor, engine, session):
        for words in ("make it red.", "add a dog"):
            session, _ = editor.edit(session.id, words, seed=1, **FEW)
        session, turn = editor.edit(session.id, "no sky", seed=3, from_original=True, **FEW)
        assert turn.prompt == "no sky"
        assert turn.recipe["prompt"] == "make it red. add a dog. no sky"
        assert turn.parent == "2"
        words, same_noise = "make it red. add a dog. no sky", {"noise_from": "seed_and_picture"}
        alone = engine.edit(picture(SIDE, SIDE), words, seed=3, **same_noise, **FEW)
        assert editor.picture(turn).sha256 == alone.pictures[0].sha256

    def test_a_mask_on_the_way_is_refused(self, editor, session):
        editor.edit(session.id, "a dog", mask=box_mask(SIDE, SIDE), seed=1, **FEW)
        with pytest.raises(InvalidRequest, match="turn 1 had a mask"):
            editor.edit(session.id, "no sky", from_original=True, **FEW)


class TestTurns:
    def test_references_are_kept_and_count(self, editor, session):
        face = picture(48, 48, seed=4)
        _, alone = editor.edit(session.id, "a cat", seed=1, parent="0", **FEW)
        session, turn = editor.edit(
            session.id, "a cat", seed=1, parent="0", references=[face], **FEW
        )
        (key,) = turn.inputs["references"]
        kept = Image.open(editor.store.pictures.folder / key[:2] / key)
        assert kept.tobytes() == face.tobytes()
        assert turn.picture != alone.picture

    def test_where_the_eraser_copies_from_is_kept(self, store, make_engine):
        eraser = Editor.with_engine(make_engine("erase"), store=store)
        begun, mask = eraser.new(picture(SIDE, SIDE)), box_mask(SIDE, SIDE)
        where = {"copy_from": box_mask(SIDE, SIDE, (0, 0, 12, 64)), "not_from": mask}
        _, free = eraser.edit(begun.id, mask=mask, seed=7)
        _, turn = eraser.edit(begun.id, mask=mask, seed=7, parent="0", **where)
        assert (rgb(eraser, turn) != rgb(eraser, free)).any()
        assert turn.kind == "erase"
        for name, given in where.items():
            kept = store.pictures.picture(turn.inputs[name])
            assert np.array_equal(np.asarray(kept.rgb.convert("L")), np.asarray(given))

    def test_a_turn_says_how_to_make_it_again(self, editor, engine, session):
        session, turn = editor.edit(session.id, "a cat", num_images=2, seed=5, **FEW)
        again = engine.edit(
            picture(SIDE, SIDE), turn.recipe["prompt"], seed=turn.seed, **turn.options
        )
        # Beside others an image is the same within the last bits, before they are rounded.
        difference = rgb(editor, turn).astype(int) - np.asarray(again.pictures[0].rgb)
        assert np.abs(difference).max() <= 1
        assert turn.recipe["seeds"] == [turn.seed]

    def test_undo_redo_and_branch(self, editor, session):
        editor.edit(session.id, "a cat", seed=1, **FEW)
        assert editor.undo(session.id).head == "0"
        with pytest.raises(InvalidRequest, match="nothing to undo"):
            editor.undo(session.id)
        assert editor.redo(session.id).head == "1"
        with pytest.raises(InvalidRequest, match="nothing to redo"):
            editor.redo(session.id)
        editor.branch(session.id, "0")
        session, turn = editor.edit(session.id, "a dog", seed=1, **FEW)
        assert (turn.id, turn.parent, session.tip) == ("2", "0", "2")

    def test_two_at_once_conflict_and_lose_nothing(self, editor, session):
        def meanwhile(told) -> None:
            if told.step == 1:
                with pytest.raises(SessionConflict):
                    editor.edit(session.id, "a dog", revision=session.revision, **FEW)

        after, turn = editor.edit(
            session.id, "a cat", seed=1, revision=session.revision, on_progress=meanwhile, **FEW
        )
        assert [each.prompt for each in after.turns] == ["", "a cat"]
        assert after.head == turn.id

    def test_who_moved_the_head_meanwhile_keeps_it(self, editor, session):
        session, _ = editor.edit(session.id, "a cat", seed=1, **FEW)

        def meanwhile(told) -> None:
            if told.step == 1:
                editor.undo(session.id)

        after, turn = editor.edit(session.id, "a dog", seed=1, on_progress=meanwhile, **FEW)
        assert (after.head, turn.id, turn.parent) == ("0", "2", "1")


def refused(*_, **__):
    raise AssertionError("the model ran")


def png(picture: Picture) -> bytes:
    return images.encode(picture)


def plain(recipe) -> dict:
    """As a file has it."""
    return json.loads(json.dumps(recipe))


class TestAreas:
    @pytest.fixture
    def turned(self, store):
        """An editor whose model changes two areas, a small one far from the large one; a turn."""
        before = np.asarray(picture(128, 128)).copy()
        after = before.copy()
        after[10:70, 10:60] = (200, 30, 30)
        after[110:118, 110:118] = (30, 30, 200)
        editor = Editor.with_engine(faulty_family.engine(after, Fault()), store=store)
        session = editor.new(before)
        return editor, before, *editor.edit(session.id, "do it", seed=1)

    def test_each_can_be_taken_back_or_kept(self, turned):
        editor, before, session, turn = turned
        assert [each["kept"] for each in turn.areas] == [True, False]
        session, other = editor.keep_areas(session.id, turn.id, [2])
        assert (other.parent, other.prompt, other.seed) == (turn.parent, turn.prompt, turn.seed)
        assert [each["kept"] for each in other.areas] == [False, True]
        now = rgb(editor, other)
        assert (now[:90, :90] == before[:90, :90]).all()
        assert np.abs(now[114, 114] - [30.0, 30, 200]).max() <= 2
        assert editor.again(session.id, other.id).pictures[0].sha256 == editor.picture(other).sha256
        session, none = editor.keep_areas(session.id, other.id, [])
        assert (rgb(editor, none) == before).all()
        assert len(session.turns) == 4

    @pytest.mark.parametrize("numbers", [[2], [1, 2], []], ids=str)
    def test_the_model_does_not_run_for_them_again(self, turned, numbers, monkeypatch):
        editor, _, session, turn = turned
        with monkeypatch.context() as patched:
            patched.setattr(faulty_family.Faulty, "prepare", refused)
            patched.setattr(faulty_family.Faulty, "copied", refused)
            session, other = editor.keep_areas(session.id, turn.id, numbers)
        rerun = editor.again(session.id, other.id)
        assert png(rerun.pictures[0]) == editor.store.pictures.get(other.picture)
        assert plain(rerun.recipe) == plain(other.recipe)
        assert other.model_output == turn.model_output

    @pytest.mark.parametrize(
        "change",
        [
            {"prompt": "do it now"},
            {"seed": 2},
            {"negative_prompt": "rain"},
            {"feather": 9},
            {"parent": "1"},
            {"num_images": 2},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_the_model_runs_for_another_edit(self, turned, change, monkeypatch):
        editor, _, session, _ = turned
        asked = {"prompt": "do it", "seed": 1, "parent": "0", "keep_areas": [2], **change}
        monkeypatch.setattr(faulty_family.Faulty, "prepare", refused)
        with pytest.raises(AssertionError, match="the model ran"):
            editor.edit(session.id, asked.pop("prompt"), **asked)

    def test_the_model_runs_where_another_one_made_the_turn(self, turned, monkeypatch):
        editor, _, session, turn = turned
        monkeypatch.setattr(recipes, "__version__", "0.0")
        monkeypatch.setattr(faulty_family.Faulty, "prepare", refused)
        with pytest.raises(AssertionError, match="the model ran"):
            editor.keep_areas(session.id, turn.id, [2])

    def test_areas_that_are_not_there_are_refused(self, turned):
        editor, _, session, turn = turned
        with pytest.raises(InvalidRequest, match="no area 3; turn 1 has areas 1 to 2"):
            editor.keep_areas(session.id, turn.id, [1, 3])
        with pytest.raises(InvalidRequest, match="turn 0 has no list of changed areas"):
            editor.keep_areas(session.id, "0", [1])


class Refuses:
    """A checker that minds bright pictures."""

    name = "bright"

    def check(self, content):
        return {"violence": 6 if np.asarray(content).mean() > 200 else 0}


class TestSafety:
    @pytest.fixture
    def guarded(self, editor, engine):
        engine.policy = Policy(mode="block", image_checkers=[Refuses()])
        return editor

    def test_a_refused_original_begins_nothing(self, guarded):
        with pytest.raises(ContentBlocked):
            guarded.new(Image.new("RGB", (SIDE, SIDE), "white"))
        assert guarded.store.summaries() == []
        assert guarded.store.collect(grace=0) == (0, 0)

    def test_a_refused_result_is_no_turn(self, guarded, session, monkeypatch):
        white = Image.new("RGB", (128, 128), "white")  # its canvas
        monkeypatch.setattr(kontext.Kontext, "decode", lambda *_: white)
        monkeypatch.setattr(kontext.Kontext, "place", taken_whole)
        kept = set(guarded.store.pictures.folder.glob("*/*"))
        with pytest.raises(ContentBlocked):
            guarded.edit(session.id, "a cat", num_images=2, **FEW)
        assert [turn.id for turn in guarded.store.get(session.id).turns] == ["0"]
        assert set(guarded.store.pictures.folder.glob("*/*")) == kept


class Reads:
    """A judge that prefers the last candidate, or is not there."""

    name, reads = "reads", True

    def __init__(self, score: float | None) -> None:
        self.score = score

    def judge(self, asked, candidates):
        if self.score is None:
            raise JudgeUnavailable("it sleeps")
        self.asked = asked
        last = len(candidates) - 1
        return [
            Judgement(judge=self.name, score=self.score if index == last else 0, reason="no dog")
            for index in range(len(candidates))
        ]


class TestJudges:
    def test_it_chooses_among_the_candidates(self, store, make_engine, monkeypatch):
        monkeypatch.setattr(kontext.Kontext, "place", half_changed)
        judge = Reads(0.9)
        editor = Editor.with_engine(
            make_engine("kontext"), store=store, examiner=Examiner(judge=judge)
        )
        session = editor.new(picture(SIDE, SIDE))
        session, turn = editor.edit(session.id, "a dog", seed=3, num_images=3, **FEW)
        assert judge.asked.instruction == "a dog"
        assert turn.seed == 5
        assert turn.measures["judge"] == {"name": "reads", "score": 0.9, "reason": "no dog"}
        assert not any("doubts" in warning for warning in turn.warnings)
        assert all("doubts" in each.warnings[-1] for each in session.turns[2:])

    def test_one_that_sleeps_costs_no_turn(self, store, make_engine):
        editor = Editor.with_engine(
            make_engine("kontext"), store=store, examiner=Examiner(judge=Reads(None))
        )
        session = editor.new(picture(SIDE, SIDE))
        _, turn = editor.edit(session.id, "a dog", seed=3, num_images=2, **FEW)
        assert turn.measures["judge"]["name"] == "pixels"
        assert any("it sleeps" in warning for warning in turn.warnings)


def test_picture_keeps_what_it_came_with(editor):
    image = picture(SIDE, SIDE).convert("RGBA")
    image.putalpha(box_mask(SIDE, SIDE))
    session = editor.new(Picture.from_pil(image))
    session, turn = editor.edit(session.id, "a cat", mask=box_mask(SIDE, SIDE), seed=1, **FEW)
    assert editor.picture(turn).alpha.tobytes() == box_mask(SIDE, SIDE).tobytes()


def test_the_parents_seed_again_is_a_warning(editor, session):
    def seeds(turn) -> list[str]:
        return [each for each in turn.warnings if "the same noise" in each]

    few = {"noise_from": "seed", **FEW}
    session, first = editor.edit(session.id, "a cat", seed=1, **few)
    assert seeds(first) == []
    session, again = editor.edit(session.id, "a hat", seed=1, **few)
    assert seeds(again) == [
        "Turn 1 had the seed 1, too: the same noise over its own result makes flaws stronger. "
        "Another seed, or none, is better."
    ]
    session, whole = editor.edit(session.id, "a bow", seed=1, from_original=True, **few)
    assert seeds(whole) == [], "the original was made by nobody"
    session, other = editor.edit(session.id, "a hat", seed=1, **FEW)
    assert seeds(other) == [], "the picture decides on the noise, too"
