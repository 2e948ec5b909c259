"""Blocks that visit a card: which place they take, and when they come."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from overpaint.checkpoints import streaming
from overpaint.checkpoints.placement import MemoryNeed, preflight
from overpaint.core.errors import OutOfMemory
from tests import second_device

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.begin = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(count))
        self.blocks[0].register_buffer("ballast", torch.ones(3, dtype=torch.float64))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = self.begin(values)
        for block in self.blocks:
            values = block(values).relu()
        return values


class Log(streaming.Copies):
    """Writes down what is done in which place; what was not waited for is not there."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._pending: dict[int, object] = {}

    def fetch(self, slot, copy) -> None:
        self.lines.append(f"fetch {slot}")
        self._pending[slot] = copy

    def arrive(self, slot) -> None:
        self.lines.append(f"arrive {slot}")
        if slot in self._pending:
            self._pending.pop(slot)()

    def leave(self, slot) -> None:
        self.lines.append(f"leave {slot}")


@pytest.mark.parametrize("resident", range(6))
@torch.inference_mode()
def test_outputs_are_those_of_resident_blocks(resident):
    values = torch.randn(2, 8)
    whole, visited = Net(5), Net(5)
    streaming.place(visited, ["blocks"], resident, CPU, Log())
    for _ in range(3):
        assert torch.equal(visited(values), whole(values))


@torch.inference_mode()
def test_the_next_block_comes_while_one_computes():
    net, log = Net(4), Log()
    streaming.place(net, ["blocks"], 1, CPU, log)
    values = torch.randn(2, 8)
    net(values)
    assert log.lines == [
        *("fetch 0", "arrive 0", "fetch 1", "leave 0"),
        *("arrive 1", "fetch 0", "leave 1"),
        *("arrive 0", "leave 0", "fetch 0"),
    ]
    log.lines.clear()
    net(values)
    # The second of the three is still there.
    assert log.lines[:4] == ["arrive 0", "leave 0", "arrive 1", "fetch 0"]


@torch.inference_mode()
def test_a_pass_that_broke_off_disturbs_none_after_it():
    values = torch.randn(2, 8)
    whole, net = Net(5), Net(5)
    streaming.place(net, ["blocks"], 0, CPU, Log())
    with pytest.raises(RuntimeError):
        net.blocks[2](torch.randn(2, 3))
    assert torch.equal(net(values), whole(values))


@torch.inference_mode()
def test_two_places_on_the_card():
    with second_device.plugged_in() as (card, _):
        net = Net(6)
        block = 4 * (128 + 128)
        before = card.held
        streaming.place(net, ["blocks"], 1, torch.device("card", 0))
        beside = sum(each.nbytes for each in net.begin.parameters())
        first = sum(each.nbytes for each in net.blocks[0].state_dict().values())
        assert card.held - before == beside + first + 2 * block
        assert {str(each.device) for each in net.state_dict().values()} == {"card:0"}
        values = torch.randn(2, 8)
        assert torch.equal(net(values.to("card:0")).cpu(), Net(6)(values))


NEED = MemoryNeed(
    {"transformer": 160, "text_encoder": 2, "text_encoder_2": 95, "vae": 2},
    text=frozenset({"text_encoder", "text_encoder_2"}),
    ahead=40,
    decode=20,
    blocks={"transformer": [10] * 10, "text_encoder_2": [9] * 10},
)


@pytest.mark.parametrize(
    ("free", "resident"),
    [
        (135, {"transformer": 7}),
        (100, {"text_encoder_2": 6, "transformer": 4}),
        (61, {"text_encoder_2": 2, "transformer": 0}),
    ],
)
def test_as_many_blocks_stay_as_fit(free, resident):
    plan = preflight("flex2", NEED, free)
    assert plan.tier == "streamed"
    assert plan.resident == resident
    assert plan.tiled
    assert plan.evict_ahead
    assert plan.evict_text_encoders
    assert plan.spare == 0


def test_two_blocks_and_the_rest_must_fit():
    with pytest.raises(OutOfMemory):
        preflight("flex2", NEED, free=50)
