"""Steps that are recorded once and replayed, where launching them takes longer than computing.

A step of a network is thousands of small operators. If the card finishes each before the processor
has launched the next, the card waits. A recorded step is launched as one: the same kernels on the
same numbers, so the results are the same bits.

    recorded(model, function, *arguments)

is `function(model, *arguments)`, recorded by the shapes of its arguments once that is worth it:

1. the first call of a shape runs as it is (libraries choose kernels and take memory in it);
2. the second one is timed: what the processor took to launch it, and the card to compute it;
3. the third one is recorded, if launching took a good part of it; else nothing ever is.

A failure while a step is recorded or replayed ends recording for that model: its steps then run as
they are. Recordings belong to the model and leave memory with it.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from overpaint.checkpoints import compiling

LAUNCH_BOUND = 0.7
"""Seconds of launching for each second of computing, from which a step is recorded."""

MOST = 8
"""Shapes that a model remembers; the least recently used one is forgotten first."""

HEADROOM = 2 * 2**30
"""Bytes that must be free for a recording: twice what a step of the largest models holds."""

ATTRIBUTE = "step_recorder"

Argument = torch.Tensor | bool | int | None | Sequence[torch.Tensor]
StepFunction = Callable[..., torch.Tensor]

_log = logging.getLogger(__name__)
_one_capture = threading.Lock()


class Tape(Protocol):
    """Records a device's work."""

    def has_room(self) -> bool:
        """Whether there is memory for another recording."""

    def timed(self, call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], float]]:
        """The call's result, and later how many seconds of launching each of computing took."""

    def record(self, call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """A function that repeats the call on the same memory, and gives the same tensor every
        time."""


class CudaGraphs:
    """Records with CUDA graphs, whose memory is shared: they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None
        self._stream: Any = None

    def has_room(self) -> bool:
        return bool(torch.cuda.mem_get_info(self._device)[0] >= HEADROOM)

    def timed(self, call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], float]]:
        with torch.cuda.device(self._device):
            begin, end = _event(), _event()
            begin.record()
            started = time.perf_counter()
            result = call()
            launching = time.perf_counter() - started
            end.record()

        def ratio() -> float:
            end.synchronize()
            return float(launching / max(begin.elapsed_time(end) / 1000, 1e-9))

        return result, ratio

    def record(self, call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        with _one_capture, torch.cuda.device(self._device):
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            graph = torch.cuda.CUDAGraph()
            # Other threads encode and decode meanwhile: only this one must keep to the rules.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                output = call()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


TAPES: dict[str, Callable[[torch.device], Tape]] = {"cuda": CudaGraphs}
"""The tape of each kind of device; the work of others is not recorded."""


class RecordableStep:
    """One recorded call: memory for its arguments, and what repeats it."""

    def __init__(self, tape: Tape, function: StepFunction, arguments: Sequence[Argument]) -> None:
        self._inputs: list[torch.Tensor] = []
        fixed = [self._fixed(argument) for argument in arguments]
        self._replay = tape.record(partial(function, *fixed))

    def __call__(self, arguments: Sequence[Argument]) -> torch.Tensor:
        """The result for other arguments of the same shapes, in memory of its own."""
        self._copy(arguments)
        return self._replay().clone()

    def _fixed(self, argument: Argument) -> Any:
        """An argument of equal shape that stays where it is."""
        if isinstance(argument, torch.Tensor):
            like = torch.empty_strided(
                argument.shape, argument.stride(), dtype=argument.dtype, device=argument.device
            )
            self._inputs.append(like)
            return like
        if isinstance(argument, list | tuple):
            return [self._fixed(each) for each in argument]
        return argument

    def _copy(self, arguments: Sequence[Argument]) -> None:
        """Bring the arguments to where the recording reads them, a launch for each precision."""
        by_dtype: dict[torch.dtype, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for fixed, tensor in zip(self._inputs, _tensors(arguments), strict=True):
            by_dtype[fixed.dtype].append((fixed, tensor))
        for pairs in by_dtype.values():
            into, values = zip(*pairs, strict=True)
            torch._foreach_copy_(into, values)


@dataclass
class Shape:
    """What is known of calls with arguments of one shape.

    Attributes:
        calls: made so far.
        ratio: gives the seconds of launching for each of computing; None = not timed yet.
        worthwhile: whether it is to be recorded; None = not known yet.
        step: the recording.
    """

    calls: int = 0
    ratio: Callable[[], float] | None = None
    worthwhile: bool | None = None
    step: RecordableStep | None = None


class Recorder:
    """The recordings of one model.

    Args:
        tape: what records.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._shapes: OrderedDict[Hashable, Shape] = OrderedDict()
        self._owner: weakref.ref[object] | None = None
        self._busy = threading.Lock()
        self._version = 0
        self.broken = False

    @property
    def recordings(self) -> int:
        """Steps that are recorded now."""
        return sum(shape.step is not None for shape in self._shapes.values())

    def clear(self) -> None:
        """Forget everything; for when the model has changed, or memory ran out."""
        self._shapes.clear()
        self._owner = None

    def compute(
        self,
        function: StepFunction,
        call: StepFunction,
        arguments: Sequence[Argument],
        *,
        owner: object = None,
        version: int = 0,
    ) -> torch.Tensor:
        """The call's result, by a recording where there is one.

        Args:
            function: tells calls with arguments of equal shapes apart.
            call: takes the arguments.
            arguments: tensors of the device, and numbers that never change.
            owner: of further memory that the call reads or writes; None = there is none.
            version: of the model; what was recorded of another one is forgotten.
        """
        if version != self._version:
            self._version = version
            self.clear()
        key = _key(function, arguments, owner)
        if key is None or self.broken or not self._busy.acquire(blocking=False):
            return call(*arguments)
        try:
            if not self._lends_to(owner):
                return call(*arguments)
            return self._of(self._shape(key), call, arguments)
        finally:
            self._busy.release()

    def may_record(self, function: StepFunction, arguments: Sequence[Argument]) -> bool:
        """Whether a call of these shapes is recorded, or may yet be."""
        key = _key(function, arguments, owner=None)
        if key is None or self.broken:
            return False
        shape = self._shapes.get(key)
        return shape is None or shape.worthwhile is not False

    def _of(self, shape: Shape, call: StepFunction, arguments: Sequence[Argument]) -> torch.Tensor:
        shape.calls += 1
        if shape.calls == 1 or shape.worthwhile is False:
            return call(*arguments)
        if shape.ratio is None:
            result, shape.ratio = self._tape.timed(partial(call, *arguments))
            return result
        try:
            if shape.worthwhile is None:
                shape.worthwhile = shape.ratio() > LAUNCH_BOUND
            if shape.worthwhile and shape.step is None and self._tape.has_room():
                shape.step = RecordableStep(self._tape, call, arguments)
            if shape.step is not None:
                return shape.step(arguments)
        except Exception:
            _log.exception("steps of this model are no longer recorded")
            self.broken = True
            self.clear()
        return call(*arguments)

    def _shape(self, key: Hashable) -> Shape:
        shape = self._shapes.setdefault(key, Shape())
        self._shapes.move_to_end(key)
        if len(self._shapes) > MOST:
            self._shapes.popitem(last=False)
        return shape

    def _lends_to(self, owner: object) -> bool:
        """Whether recordings may be bound to this owner's memory: to one owner's at a time."""
        holder = self._owner() if self._owner is not None else None
        if owner is None or holder is owner:
            return True
        if holder is not None:
            return False
        self._owner = weakref.ref(owner)
        for key, shape in self._shapes.items():
            if isinstance(key, tuple) and key[-1]:
                shape.step = None
        return True


def attach(model: Any, device: torch.device) -> None:
    """Let a model's steps be recorded from now on, where its device can do that."""
    if device.type in TAPES and not hasattr(model, ATTRIBUTE):
        setattr(model, ATTRIBUTE, Recorder(TAPES[device.type](device)))


def clear(model: Any) -> None:
    """Forget a model's recordings."""
    recorder: Recorder | None = getattr(model, ATTRIBUTE, None)
    if recorder is not None:
        recorder.clear()


def recorded(
    model: Any, function: StepFunction, *arguments: Argument, owner: object = None
) -> torch.Tensor:
    """`function(model, *arguments)`, replayed where that is faster; the same bits in both cases.

    Args:
        model: the network.
        function: of a module, not a closure; changes none of its arguments, and reads nothing else
            that changes but the owner's memory.
        arguments: tensors of one device, lists of them, and integers, booleans or None. With any
            other argument nothing is recorded.
        owner: holds further tensors that the function reads and writes, which stay where they are
            as long as it lives. One owner at a time has recordings, others run without.
    """
    recorder: Recorder | None = getattr(model, ATTRIBUTE, None)
    if recorder is None:
        return function(model, *arguments)
    version = getattr(model, compiling.VERSION, 0)
    return recorder.compute(
        function, partial(function, model), arguments, owner=owner, version=version
    )


def is_worthwhile(model: Any, function: StepFunction, *arguments: Argument) -> bool:
    """Whether a call of these shapes is recorded, or may yet be: worth it to change them for that.

    Args:
        model, function, arguments: as `recorded` takes them.
    """
    recorder: Recorder | None = getattr(model, ATTRIBUTE, None)
    return recorder is not None and recorder.may_record(function, arguments)


def _key(function: StepFunction, arguments: Sequence[Argument], owner: object) -> Hashable | None:
    """A key that calls share if one recording serves them; None = they cannot be recorded."""
    parts = [_part(argument) for argument in arguments]
    if None in parts:
        return None
    return (function, *parts, owner is not None)


def _part(argument: Argument) -> Hashable | None:
    if isinstance(argument, torch.Tensor):
        overlapping = any(
            stride == 0 and size > 1
            for size, stride in zip(argument.shape, argument.stride(), strict=True)
        )
        signature = (argument.shape, argument.stride(), argument.dtype, argument.device)
        return None if overlapping else signature
    if isinstance(argument, list | tuple):
        parts = tuple(_part(each) for each in argument)
        return None if None in parts else parts
    if argument is None or type(argument) in (bool, int):
        return (type(argument), argument)
    return None


def _tensors(arguments: Sequence[Argument]) -> list[torch.Tensor]:
    """Every tensor among the arguments, in order."""
    tensors: list[torch.Tensor] = []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            tensors.append(argument)
        elif isinstance(argument, list | tuple):
            tensors.extend(_tensors(argument))
    return tensors
