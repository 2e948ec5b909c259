"""The board's moves, without threads: who takes what, who waits for what, who is at fault."""

from __future__ import annotations

import time
from functools import partial
from threading import Thread

import pytest
import torch

from overpaint.core import errors
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest, EditResult
from overpaint.engine.batching.board import Board, Observer
from overpaint.engine.batching.device import EXPRESS
from overpaint.engine.batching.policy import PassPolicy
from overpaint.engine.batching.ticket import Ticket, Trace
from overpaint.engine.engine import Engine
from tests.conftest import box_mask, picture

STEPS = 3
WAIT = 60


@pytest.fixture
def make_board(make_engine):
    """(devices) → board of as many sd2 engines, nobody at work on it."""

    def board(count=1, max_images=4, max_queued=64, callers=1, width=1, in_bulk=False) -> Board:
        source = make_engine("sd2")
        engines = [
            Engine(source.models.get, "sd2", device=f"card:{number}") for number in range(count)
        ]
        return Board(
            engines,
            max_images=max_images,
            max_queued=max_queued,
            callers=callers,
            policy=partial(PassPolicy, width, in_bulk=in_bulk),
            observer=Observer(),
        )

    return board


def submit(board: Board, seed=0, caller="", **more) -> Ticket:
    request = EditRequest(
        image=Picture.from_pil(picture(64, 64, seed=seed)),
        prompt="a red cat",
        mask=box_mask(64, 64),
        seed=seed,
        options={"num_inference_steps": STEPS},
        **more,
    )
    trace = Trace(0.0, board.effort.total)
    ticket = Ticket(request=request, steps=STEPS, caller=caller, trace=trace, canvas=64 * 64)
    board.add(ticket)
    return ticket


def admit(board: Board, number=0) -> Ticket | None:
    """What the encoder of a device does, but for an edit that is prepared already."""
    device = board.devices[number]
    with board.change:
        ticket = board._admitted(device, board.waiting)
    if ticket is not None:
        edit = device.engine.begin(ticket.submission)
        keys = [edit.model.family.batch_key(image) for image in edit.prepared]
        board.prepared(device, ticket, edit, keys)
    return ticket


def batch_of(board: Board, number=0):
    device = board.devices[number]
    return device.policy.choose(device.running, board.effort)


def finish(board: Board, ticket: Ticket, number=0) -> None:
    device = board.devices[number]
    result = EditResult(
        pictures=(ticket.request.image,), seeds=(0,), recipe={}, timings={}, warnings=()
    )
    device.move_to_finish(ticket)
    assert board.decoded(device, ticket)
    board.delivered(ticket, result)


def break_pass(board: Board, number=0, error=None) -> None:
    error = error or RuntimeError("nobody knows why")
    board.stumbled(board.devices[number], batch_of(board, number), error, untouched=True)


def test_an_edit_that_found_no_room_for_its_model_waits_for_one_that_fails_too(make_board):
    """An edit whose pass fails leaves the device like any other."""
    board = make_board()
    failing, other = submit(board, 1), submit(board, 2)
    assert [admit(board), admit(board)] == [failing, other]
    blocked = submit(board, 3)
    with board.change:
        assert board._admitted(board.devices[0], board.waiting) is blocked
    board.postponed(board.devices[0], blocked)
    assert admit(board) is None
    break_pass(board)
    assert failing.future.exception() is not None
    assert admit(board) is blocked


def test_a_caller_fills_its_own_part_of_the_queue_alone(make_board):
    board = make_board(max_queued=4, callers=2)
    first = [submit(board, seed, caller="many") for seed in range(2)]
    with pytest.raises(errors.Overloaded, match="your share of the queue"):
        submit(board, 3, caller="many")
    other = submit(board, 4, caller="few")
    assert admit(board) is first[0]
    submit(board, 5, caller="many")
    assert admit(board) is other


def test_a_caller_whose_images_are_many_holds_up_its_own_edits_alone(make_board):
    board = make_board(max_images=4, callers=2)
    assert submit(board, 0, caller="many") is admit(board)
    waits = submit(board, 1, caller="many", num_images=3)
    small = [submit(board, seed, caller="few") for seed in (2, 3)]
    assert [admit(board), admit(board)] == small
    assert admit(board) is None
    assert waits.state == "waiting"


def test_an_edit_of_many_images_lets_a_single_one_be_encoded_but_makes_its_passes(make_board):
    board = make_board(max_images=16)
    (device,) = board.devices
    device.engine.load()
    many = submit(board, num_images=10)
    assert admit(board) is many
    single = submit(board, 1)
    assert board.work_beside(device, many) is single
    running = submit(board, 2)
    assert admit(board) is running
    assert board.passes_beside(device, [many]) == []


def test_a_device_that_has_the_model_is_preferred_until_it_has_much_to_do(make_board):
    board = make_board(2, max_images=100)
    board.devices[1].engine.model()
    first = submit(board)
    assert admit(board, 0) is None
    assert admit(board, 1) is first
    for seed in range(1, 17):
        submit(board, seed)
        assert admit(board, 1)
    last = submit(board, 17)
    assert admit(board, 1) is None
    assert admit(board, 0) is last


def test_edits_go_where_there_is_least_to_do(make_board):
    board = make_board(2)
    for device in board.devices:
        device.engine.model()
    tickets = [submit(board, seed) for seed in range(4)]
    taken = [admit(board, number) for number in (0, 1, 0, 1)]
    assert taken == tickets
    assert admit(board, 0) is None


def test_a_busy_encoder_holds_up_nobody(make_board):
    """The better device is loading: the other one takes the edit."""
    board = make_board(2)
    board.devices[1].engine.model()
    board.devices[1].encodes = True
    ticket = submit(board)
    assert admit(board, 0) is ticket


def test_results_that_wait_for_the_safety_policy_do_not_pile_up(make_board):
    board = make_board(max_images=2)
    device = board.devices[0]
    held = []
    for seed in range(2 + 2 + EXPRESS):
        ticket = submit(board, seed)
        assert admit(board) is ticket
        device.move_to_finish(ticket)
        assert board.decoded(device, ticket)
        held.append(ticket)
    assert board.images == 0
    one_more = submit(board, 99)
    assert admit(board) is None
    board.delivered(held[0], errors.ContentBlocked("no", stage="output_image", category="hate"))
    assert admit(board) is one_more


class TestFaults:
    def test_an_edit_that_fails_goes_to_another_device(self, make_board):
        board = make_board(2)
        ticket = submit(board)
        assert admit(board, 0) is ticket
        break_pass(board, 0)
        assert (ticket.state, ticket.edit) == ("waiting", None)
        assert admit(board, 0) is None
        assert admit(board, 1) is ticket

    def test_an_edit_that_fails_on_two_devices_fails_and_no_device_is_blamed(self, make_board):
        board = make_board(3)
        for seed in range(5):
            ticket = submit(board, seed)
            for _ in range(2):
                number = next(number for number in range(3) if admit(board, number) is ticket)
                break_pass(board, number)
            assert isinstance(ticket.future.exception(), RuntimeError)
        assert all(device.serves and not device.suspects for device in board.devices)

    def test_bad_input_is_not_tried_again(self, make_board):
        board = make_board(2)
        ticket = submit(board)
        admit(board, 0)
        break_pass(board, 0, errors.UnsupportedOption("no", field="options.x"))
        assert ticket.state == "done"
        assert not board.devices[0].suspects

    def test_memory_that_is_short_on_one_device_is_no_fault_of_it(self, make_board):
        board = make_board(2)
        for seed in range(4):
            ticket = submit(board, seed)
            assert admit(board, 0) is ticket
            break_pass(board, 0, errors.OutOfMemory("full"))
            assert admit(board, 1) is ticket
            finish(board, ticket, 1)
        assert board.devices[0].serves

    def test_a_device_whose_edits_succeed_elsewhere_is_not_used_any_more(self, make_board, caplog):
        board = make_board(2)
        under_way = []
        for seed in range(2):
            ticket = submit(board, seed)
            assert admit(board, 0) is ticket
            break_pass(board, 0)
            fresh = submit(board, 10 + seed)
            assert admit(board, 0) is None, "it waits for the verdict"
            assert admit(board, 1) is ticket
            assert admit(board, 1) is fresh
            finish(board, ticket, 1)
            under_way.append(fresh)
        assert not board.devices[0].serves
        assert "card:0 is not used any more" in caplog.text
        for ticket in under_way:
            finish(board, ticket, 1)

    def test_an_edit_that_is_done_between_clears_a_device(self, make_board):
        board = make_board(2)
        for seed in range(4):
            ticket, good = submit(board, seed), submit(board, seed + 10)
            board.devices[1].encodes = True
            assert [admit(board, 0), admit(board, 0)] == [ticket, good]
            board.devices[1].encodes = False
            break_pass(board, 0)
            finish(board, good, 0)
            assert admit(board, 1) is ticket
            finish(board, ticket, 1)
        assert board.devices[0].serves

    def test_what_an_accelerator_reports_ends_its_use_at_once(self, make_board):
        board = make_board(2)
        tickets = [submit(board, seed) for seed in range(3)]
        assert [admit(board, 0) for _ in tickets] == tickets
        error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        break_pass(board, 0, error)
        assert board.devices[0].error is error
        assert set(board.waiting) == set(tickets)
        assert [len(ticket.failed_on) for ticket in tickets] == [1, 0, 0]

    def test_the_only_device_goes_on(self, make_board):
        board = make_board(1)
        error = torch.AcceleratorError("CUDA error")
        for seed in range(4):
            ticket = submit(board, seed)
            assert admit(board) is ticket
            break_pass(board, 0, error)
            assert ticket.future.exception() is error
        assert board.devices[0].serves

    def test_nothing_waits_for_ever_once_no_device_is_left(self, make_board):
        board = make_board(2)
        running, waiting = submit(board, 1), submit(board, 2)
        assert admit(board, 0) is running
        error = SystemExit("a thread died")
        for device in board.devices:
            board.lose(device, error)
        for ticket in (running, waiting):
            # An event loop that is handed a SystemExit ends itself.
            assert isinstance(ticket.future.exception(), RuntimeError)
            assert ticket.future.exception().__cause__ is error
        with pytest.raises(errors.Overloaded, match="no working device"):
            submit(board, 3)
        for future in board.add_loads("sd2"):
            assert future.exception() is error


@pytest.mark.parametrize("ends_by", ["company", "an idle encoder"])
def test_in_bulk_a_pass_waits_for_what_is_being_encoded(make_board, ends_by):
    board = make_board(width=2, in_bulk=True)
    (device,), tickets = board.devices, [submit(board)]
    admit(board)
    device.takes_turns, device.encodes, batch = True, True, []
    stepper = Thread(target=lambda: batch.extend(board.next_batch(device)))
    stepper.start()
    end = time.monotonic() + WAIT
    while stepper.is_alive() and not board.change._waiters:
        assert time.monotonic() < end
    if ends_by == "company":
        tickets.append(submit(board, 1))
        admit(board)
    else:
        Thread(target=board.next_work, args=[device], daemon=True).start()
    stepper.join(WAIT)
    assert [pick.ticket for pick in batch] == tickets
    board.close()
