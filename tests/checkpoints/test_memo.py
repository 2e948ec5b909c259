"""What is remembered is what was computed, within its bytes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from overpaint.checkpoints.memo import MOST, Memo, content


def test_a_value_is_computed_once_and_counted():
    memo = Memo()
    first = memo.get("key", lambda: torch.ones(3))
    second = memo.get("key", lambda: torch.zeros(3))
    assert second is first
    assert (memo.hits, memo.misses, memo.size) == (1, 1, 12)


def test_the_least_recently_used_leaves_when_the_bytes_are_spent():
    memo = Memo(capacity=24)
    memo.get("a", lambda: torch.ones(3))
    memo.get("b", lambda: torch.ones(3))
    memo.get("a", lambda: torch.ones(3))
    memo.get("c", lambda: torch.ones(3))
    assert memo.size == 24
    memo.get("a", lambda: torch.ones(3))
    assert (memo.hits, memo.misses) == (2, 3)
    memo.get("b", lambda: torch.ones(3))
    assert memo.misses == 4


def test_a_value_larger_than_all_is_given_and_not_kept():
    memo = Memo(capacity=4)
    assert memo.get("big", lambda: torch.ones(8)).sum() == 8
    assert memo.size == 0


@given(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4))
def test_content_tells_values_and_layout_apart(values):
    tensor = torch.tensor(values).reshape(1, 1, 2, 2)
    assert content(tensor) == content(tensor.clone())
    changed = tensor.clone()
    changed[0, 0, 1, 1] += 1
    assert content(changed) != content(tensor)
    assert content(tensor.transpose(2, 3)) != content(tensor)
    assert content(tensor.double()) != content(tensor)


def test_there_are_so_many_values_at_most():
    memo = Memo()
    for key in range(2 * MOST):
        memo.get(key, lambda: torch.zeros(1))
        memo.get("asked for again and again", lambda: torch.ones(1))
    assert memo.size == MOST * torch.zeros(1).nbytes
    assert memo.misses == 2 * MOST + 1
