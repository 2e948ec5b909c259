"""The batcher's promises: the same picture, short edits first, places freed, nothing lost."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter

import numpy as np
import pytest

from overpaint.core import errors
from overpaint.core.imaging import borders
from overpaint.core.imaging.images import Picture
from overpaint.core.types import EditRequest
from overpaint.core.work import garbage
from overpaint.diffusion.denoise import MAX_BATCH
from overpaint.engine.batching import policy
from overpaint.engine.batching.batcher import Batcher
from overpaint.engine.batching.observer import Observer
from overpaint.engine.batching.policy import AGEING, Pace, PassEffort, PassPolicy, Pick, in_order
from overpaint.engine.batching.ticket import Ticket, Trace
from overpaint.engine.cache import ModelCache
from overpaint.engine.checking import check
from overpaint.engine.engine import Engine
from overpaint.safety import policy as safety
from tests.conftest import box_mask, picture

WAIT = 60


def request(seed=0, steps=2, size=64, **more) -> EditRequest:
    return EditRequest(
        image=Picture.from_pil(picture(size, size, seed=seed)),
        prompt="a red cat",
        mask=box_mask(size, size),
        seed=seed,
        options={"num_inference_steps": steps},
        **more,
    )


@pytest.fixture
def make_batcher(make_engine):
    """(family, **arguments) → batcher, closed after the test."""
    made = []

    def batcher(family="sd2", **arguments) -> Batcher:
        made.append(Batcher(make_engine(family), **arguments))
        return made[-1]

    yield batcher
    for each in made:
        each.close()


class Holding(Engine):
    """An engine whose steps wait for permission, so that a test decides what happens between."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.models.get, engine.default_model)
        self.allowed = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)

    def step(self, model, images) -> None:
        self.begun.release()
        self.allowed.acquire()
        super().step(model, images)

    def let(self, passes) -> None:
        for _ in range(passes):
            assert self.begun.acquire(timeout=WAIT)
            self.allowed.release()


@pytest.fixture
def holding(make_engine):
    """(**arguments) → batcher on sd2 whose passes the test lets through one by one."""
    made = []

    def batcher(**arguments) -> Batcher:
        made.append(Batcher(Holding(make_engine("sd2")), **arguments))
        return made[-1]

    yield batcher
    for each in made:
        each.engine.allowed.release(10_000)
        each.close()


def until(condition) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


class TestSamePicture:
    @pytest.mark.parametrize("family", ["sd2", "sdxl", "flex2", "fill", "kontext"])
    def test_under_load_as_if_alone(self, make_batcher, make_engine, family):
        requests = [
            request(1, 2),
            request(2, 5),
            request(3, 3, size=96),
            request(4, 4, negative_prompt="dog"),
            request(5, 3, num_images=3),
            request(6, 2, size=70),
        ]
        batcher = make_batcher(family)
        tickets = [batcher.submit(each) for each in requests]
        assert batcher.drain(WAIT)
        engine = make_engine(family)
        for asked, ticket in zip(requests, tickets, strict=True):
            alone = engine.run([asked])[0]
            crowded = ticket.result(WAIT)
            assert crowded.seeds == alone.seeds
            for one, other in zip(alone.images, crowded.images, strict=True):
                difference = np.asarray(one).astype(int) - np.asarray(other).astype(int)
                assert np.abs(difference).max() <= 1

    def test_edits_without_steps_pass_through(self, make_batcher):
        asked = EditRequest(image=Picture.from_pil(picture()), mask=box_mask(), model="erase")
        result = make_batcher("erase").submit(asked).result(WAIT)
        assert result.pictures[0].size == (128, 128)

    def test_waiting_is_among_the_timings(self, make_batcher):
        timings = make_batcher().submit(request()).result(WAIT).timings
        assert {"queued", "prepare", "steps", "decode", "composite", "total"} <= set(timings)


class TestFairness:
    def test_a_short_edit_overtakes_a_long_one(self, holding):
        batcher = holding(width=1)
        engine = batcher.engine
        long = batcher.submit(request(1, 30))
        engine.let(3)
        short = batcher.submit(request(2, 4))
        until(lambda: short.state == "running")
        # The pass under way is the long one's last before the short one's four.
        engine.let(5)
        until(short.future.done)
        assert short.trace.first_pass - short.trace.prepared_pass <= 2
        assert short.trace.last_pass - short.trace.first_pass == 3
        assert long.trace.last_pass - long.trace.first_pass < 30
        engine.let(26)
        assert long.result(WAIT)

    def test_the_first_step_comes_within_two_passes(self, holding):
        batcher = holding(width=1)
        long = [batcher.submit(request(seed, 20)) for seed in range(3)]
        batcher.engine.let(2)
        new = batcher.submit(request(9, 5))
        until(lambda: new.state == "running")
        batcher.engine.let(2)
        until(lambda: new.trace.first_pass is not None)
        assert new.trace.first_pass - new.trace.prepared_pass <= 2
        assert all(not each.future.done() for each in long)

    def test_a_long_edit_is_overtaken_for_a_bounded_time_only(self):
        """A stream of two-step edits that would fill the device for ever."""
        long = waiting(steps=30, since=0)
        others, passes = [], 0
        while long.steps:
            if passes % 2 == 0:
                others.append(waiting(steps=2, since=passes))
            first = in_order([long, *others], after(passes))[0]
            first.steps -= 1
            others = [each for each in others if each.steps]
            passes += 1
            assert passes < 2000
        assert passes <= 30 / AGEING + 2 * 30 + 10

    def test_ageing_spares_those_who_came_first_among_equals(self):
        tickets = [waiting(steps=10, since=since) for since in (5, 0, 9)]
        assert in_order(tickets, after(20)) == [tickets[1], tickets[0], tickets[2]]

    def test_callers_take_turns_whatever_the_number_of_their_edits(self):
        many = [waiting(steps=4, since=0, caller="many") for _ in range(20)]
        few = [waiting(steps=4, since=0, caller="few") for _ in range(2)]
        order = in_order([*many, *few], PassEffort())
        assert [order.index(each) for each in few] == [1, 3]

    def test_a_caller_who_sends_too_much_delays_nobody_who_sends_little(self):
        """The edits of the one are so old that they are before all newer ones of their caller."""
        flood = Line("many", edits=20, steps=50)
        for turn in range(500):
            since = flood.effort.total
            few = [waiting(steps=2, since=since, caller="few")] if turn % 10 == 0 else []
            flood.enter(few)
            while few:
                assert flood.make_pass(few).caller == "few"
            assert flood.make_pass([]).caller == "many"

    def test_callers_who_both_send_too_much_have_half_each_whatever_was_before(self):
        flood = Line("many", edits=20, steps=50)
        for _ in range(500):
            flood.make_pass([])
        other = [waiting(steps=10, since=500, caller="other") for _ in range(200)]
        flood.enter(other)
        led = Counter(flood.make_pass(other).caller for _ in range(400))
        assert abs(led["many"] - led["other"]) <= 50

    def test_a_step_counts_by_its_pixels(self):
        large = waiting(steps=1, since=0, canvas=2048 * 2048)
        small = waiting(steps=10, since=5, canvas=64 * 64)
        assert in_order([large, small], after(5)) == [small, large]
        assert in_order([large, waiting(steps=10, since=150)], after(150))[0] is large

    def test_short_edits_need_no_slot(self, holding):
        batcher = holding(width=1, max_images=2)
        long = [batcher.submit(request(seed, 20)) for seed in range(3)]
        batcher.engine.let(1)
        until(lambda: sum(each.state == "running" for each in long) == 2)
        short = batcher.submit(request(8, 2))
        until(lambda: short.state == "running")
        assert batcher.images == 3
        assert [each.state for each in long].count("waiting") == 1


class Line:
    """A device whose passes have one image, and a caller whose edits never end.

    Args:
        caller: whose.
        edits: that are there at any time.
        steps: of each.
    """

    def __init__(self, caller, edits, steps) -> None:
        self.effort = PassEffort()
        self.effort.enter(caller, set())
        self._new = lambda: waiting(steps=steps, since=self.effort.total, caller=caller)
        self._edits = [self._new() for _ in range(edits)]

    def enter(self, tickets) -> None:
        for each in tickets:
            self.effort.enter(each.caller, {each.caller for each in self._edits})

    def make_pass(self, others) -> Ticket:
        """Make one; the edit that led it. It leaves the others when it is done."""
        lead = in_order([*self._edits, *others], self.effort)[0]
        lead.steps -= 1
        self.effort.add([Pick(lead, None, None, None)])
        for tickets in (self._edits, others):
            if lead in tickets and not lead.steps:
                tickets.remove(lead)
        self._edits += [self._new()] if not lead.steps and lead.caller == "many" else []
        return lead


def after(passes) -> PassEffort:
    """When so many passes of small canvases were made."""
    effort = PassEffort()
    effort.total = passes
    return effort


def waiting(*, steps, since, **more) -> Ticket:
    trace = Trace(submitted=0.0, submitted_effort=since)
    return Ticket(request=request(), steps=steps, trace=trace, **more)


class TestPace:
    def test_a_device_that_one_image_fills_gets_one_at_a_time(self):
        assert paced(lambda images: 1.0 * images).width(longer_company=False) == 1

    def test_a_device_with_room_gets_all(self):
        pace = paced(lambda images: 1.0 + 0.02 * images)
        assert pace.width(longer_company=False) == MAX_BATCH
        assert pace.width(longer_company=True) == MAX_BATCH

    def test_longer_company_may_slow_by_half_at_most(self):
        pace = paced(lambda images: 0.8 + 0.2 * images)
        assert pace.width(longer_company=False) == MAX_BATCH
        room = pace.width(longer_company=True)
        assert 1 < room < MAX_BATCH
        assert 0.8 + 0.2 * room <= policy.SLOWDOWN

    def test_smaller_batches_are_tried_before_anything_is_known(self):
        pace = Pace()
        widths = []
        for _ in range(6):
            widths.append(pace.width(longer_company=False))
            pace.learn(widths[-1], 1.0 * widths[-1])
        assert widths[0] == MAX_BATCH
        assert widths[-1] == 1

    def test_it_forgets_images_it_has_not_seen_for_long(self, make_engine):
        policies = PassPolicy()
        engine = make_engine("sd2")
        ticket = waiting(steps=1, since=0)
        ticket.edit = engine.begin(request())
        for size in range(policy.KNOWN_PACES + 5):
            ticket.keys = [("size", size)]
            policies.learn(policies.choose([ticket], PassEffort()), 0.1)
        assert len(policies._paces) == policy.KNOWN_PACES


def paced(seconds) -> Pace:
    """A pace that knows passes of four sizes; the first of each took long, for compiling."""
    pace = Pace()
    for images in (1, 2, 4, 8):
        for factor in (100 / images, 1):
            pace.learn(images, factor * seconds(images))
    return pace


class TestLeaving:
    def test_cancelling_frees_the_place_before_the_next_pass(self, holding):
        batcher = holding(width=1)
        ticket = batcher.submit(request(1, 50))
        batcher.engine.let(2)
        until(lambda: batcher.engine.begun.acquire(blocking=False))
        batcher.cancel(ticket)
        batcher.engine.allowed.release()
        with pytest.raises(errors.Cancelled):
            ticket.result(WAIT)
        assert ticket.trace.last_pass <= 3  # the third one may end after the edit
        until(lambda: batcher.idle)

    def test_cancelling_a_queued_edit_frees_its_place_at_once(self, holding):
        batcher = holding(max_images=1, max_queued=1)
        batcher.submit(request(1, 5))
        until(lambda: batcher.queued == 0)
        waiting_ = batcher.submit(request(2, 50))
        with pytest.raises(errors.Overloaded):
            batcher.submit(request(3, 5))
        batcher.cancel(waiting_)
        batcher.submit(request(3, 50))
        with pytest.raises(errors.Cancelled):
            waiting_.result(WAIT)

    def test_cancelling_what_is_done_changes_nothing(self, make_batcher):
        batcher = make_batcher()
        ticket = batcher.submit(request())
        result = ticket.result(WAIT)
        batcher.cancel(ticket)
        assert ticket.result() is result

    def test_a_deadline_ends_a_running_edit(self, holding):
        batcher = holding()
        ticket = batcher.submit(request(1, 50), seconds=600)
        batcher.engine.let(2)
        until(lambda: batcher.engine.begun.acquire(blocking=False))
        ticket.deadline = time.monotonic()
        batcher.engine.allowed.release()
        with pytest.raises(errors.DeadlineExceeded):
            ticket.result(WAIT)
        assert ticket.trace.last_pass <= 3  # the third one may end after the edit

    def test_a_deadline_ends_a_queued_edit(self, holding):
        batcher = holding(max_images=1)
        batcher.submit(request(1, 5))
        until(lambda: batcher.queued == 0)
        ticket = batcher.submit(request(2, 50), seconds=0.05)
        with pytest.raises(errors.DeadlineExceeded):
            ticket.result(WAIT)

    def test_closing_cancels_what_is_left(self, holding):
        batcher = holding(max_images=1)
        tickets = [batcher.submit(request(seed, 50)) for seed in range(3)]
        batcher.engine.let(1)
        batcher.engine.allowed.release(1000)
        batcher.close()
        for ticket in tickets:
            with pytest.raises(errors.Cancelled):
                ticket.result(WAIT)


class TestQueue:
    def test_a_full_queue_says_when_to_come_back(self, holding):
        batcher = holding(max_images=1, max_queued=2)
        batcher.submit(request(0, 3))
        until(lambda: batcher.queued == 0)
        for seed in (1, 2):
            batcher.submit(request(seed, 50))
        with pytest.raises(errors.Overloaded) as refused:
            batcher.submit(request(3, 50))
        assert refused.value.retry_after >= 1

    def test_positions_follow_the_order(self, holding):
        batcher = holding(max_images=1)
        batcher.submit(request(0, 3))
        until(lambda: batcher.queued == 0)
        long = batcher.submit(request(1, 50))
        short = batcher.submit(request(2, 5))
        assert (batcher.position(short), batcher.position(long)) == (0, 1)

    def test_the_canvas_of_an_edit_is_known_once_its_model_is_loaded(self, make_batcher):
        batcher = make_batcher()
        family = batcher.engine.model().family.spec
        edit = check(family, request(size=128))
        assert batcher.canvas_of(edit) is None
        batcher.load("sd2").result(WAIT)
        assert batcher.canvas_of(edit) == 128 * 128
        grown = check(family, request(extend=borders.parse({"left": 32}, (64, 64))))
        assert batcher.canvas_of(grown) is None

    def test_more_images_than_can_ever_be_under_way_are_refused(self, make_batcher):
        with pytest.raises(errors.InvalidRequest, match="num_images"):
            make_batcher(max_images=2).submit(request(num_images=3))

    def test_draining_finishes_everything_and_takes_nothing_more(self, make_batcher):
        batcher = make_batcher(max_images=2)
        tickets = [batcher.submit(request(seed, 3)) for seed in range(6)]
        assert batcher.drain(WAIT)
        assert all(ticket.future.done() and ticket.result().images for ticket in tickets)
        with pytest.raises(errors.Overloaded, match="stopping"):
            batcher.submit(request())

    def test_images_under_way_stay_within_the_limit(self, make_batcher):
        most = 0

        class Watching(Observer):
            def stepped(self, images, seconds) -> None:
                nonlocal most
                most = max(most, batcher.images)

        batcher = make_batcher(max_images=3, observer=Watching())
        tickets = [batcher.submit(request(seed, 4)) for seed in range(12)]
        for ticket in tickets:
            ticket.result(WAIT)
        assert 1 <= most <= 3


class TestNews:
    def test_every_step_is_told_and_previews_are_whole_pictures(self, make_batcher):
        updates = []
        asked = request(1, 6, size=96)
        make_batcher().submit(asked, previews=2, on_update=updates.append).result(WAIT)
        steps = [update.step for update in updates if update.preview is None]
        assert steps == [0, 1, 2, 3, 4, 5, 6]
        shown = [update for update in updates if update.preview is not None]
        assert [update.step for update in shown] == [2, 4]
        for update in shown:
            assert update.preview.size == (96, 96)
            outside = np.asarray(asked.mask) == 0
            before, now = np.asarray(asked.image.rgb), np.asarray(update.preview.rgb)
            assert np.array_equal(before[outside], now[outside])

    def test_a_listener_that_fails_harms_nobody(self, make_batcher, caplog):
        def failing(update) -> None:
            raise ValueError("listener")

        batcher = make_batcher()
        assert batcher.submit(request(), on_update=failing).result(WAIT)
        assert "a listener of an edit failed" in caplog.text

    @pytest.mark.parametrize("family", ["sdxl", "flex2", "fill", "kontext"])
    def test_previews_of_packed_latents(self, make_batcher, family):
        updates = []
        batcher = make_batcher(family)
        batcher.submit(request(1, 3), previews=1, on_update=updates.append).result(WAIT)
        assert [u.preview.size for u in updates if u.preview] == [(64, 64)]

    def test_previews_of_an_instruction_without_a_mask(self, make_batcher):
        updates = []
        asked = EditRequest(
            image=Picture.from_pil(picture()), prompt="red", options={"num_inference_steps": 3}
        )
        make_batcher("kontext").submit(asked, previews=1, on_update=updates.append).result(WAIT)
        assert [u.preview.size for u in updates if u.preview] == [(128, 128)]


class TestFailures:
    def test_a_bad_request_fails_alone(self, make_batcher):
        batcher = make_batcher()
        good = batcher.submit(request(1, 3))
        bad = batcher.submit(request(2, 0))
        assert good.result(WAIT)
        with pytest.raises(errors.UnsupportedOption):
            bad.result(WAIT)

    def test_a_pass_that_runs_out_of_memory_is_tried_with_fewer_images(self, make_engine):
        class Narrow(Engine):
            def step(self, model, images) -> None:
                if len(images) > 2:
                    raise errors.OutOfMemory("three do not fit")
                super().step(model, images)

        batcher = Batcher(Narrow(make_engine("sd2").models.get, "sd2"))
        tickets = [batcher.submit(request(seed, 6)) for seed in range(6)]
        assert all(ticket.result(WAIT).images for ticket in tickets)
        batcher.close()

    def test_an_image_that_breaks_a_pass_fails_alone(self, make_engine):
        class Picky(Engine):
            def step(self, model, images) -> None:
                if any(image.seed == 3 for image in images):
                    raise ValueError("three")
                super().step(model, images)

        batcher = Batcher(Picky(make_engine("sd2").models.get, "sd2"))
        tickets = [batcher.submit(request(seed, 6)) for seed in range(5)]
        for seed, ticket in enumerate(tickets):
            if seed == 3:
                with pytest.raises(ValueError, match="three"):
                    ticket.result(WAIT)
            else:
                assert ticket.result(WAIT).seeds == (seed,)
        batcher.close()

    def test_a_model_that_cannot_be_loaded_is_told(self, make_batcher):
        batcher = make_batcher()
        batcher.engine.models._load = failing_load
        with pytest.raises(errors.ModelLoadError):
            batcher.load("other").result(WAIT)
        with pytest.raises(errors.ModelLoadError):
            batcher.submit(request(model="other")).result(WAIT)

    def test_loading_ends_when_the_batcher_is_closed(self, make_engine):
        entered, leave = threading.Event(), threading.Event()

        def slow_load(name):
            entered.set()
            assert leave.wait(WAIT)
            return make_engine("sd2").model()

        batcher = Batcher(Engine(slow_load, "a"))
        first, second = batcher.load("a"), batcher.load("b")
        assert entered.wait(WAIT)
        closing = threading.Thread(target=batcher.close)
        closing.start()
        with pytest.raises(errors.Cancelled):
            second.result(WAIT)
        leave.set()
        closing.join(WAIT)
        assert first.result(WAIT) is None
        with pytest.raises(errors.Cancelled):
            batcher.load("a").result(WAIT)


def failing_load(name):
    raise errors.ModelLoadError(f"{name} is broken")


class Slow:
    """A checker that judges the pictures and words of `slow` only when it is told to."""

    name = "slow"

    def __init__(self, *slow) -> None:
        self.slow = slow
        self.entered, self.leave = threading.Event(), threading.Event()

    def check(self, content):
        known = content if isinstance(content, str) else content.size
        if known in self.slow:
            self.entered.set()
            assert self.leave.wait(WAIT)
        return {"violence": 0}


class TestSafety:
    """A slow check holds up the edit that it is about and no other."""

    def test_of_a_request(self, make_batcher):
        batcher, slow = make_batcher(), Slow((96, 96))
        batcher.engine.policy = safety.Policy(mode="block", image_checkers=[slow])
        held = batcher.submit(request(1, size=96))
        assert slow.entered.wait(WAIT)
        assert batcher.submit(request(2)).result(WAIT)
        assert held.state == "waiting"
        slow.leave.set()
        assert [each.stage for each in held.result(WAIT).safety] == ["input_image", "output_image"]

    def test_of_a_result(self, make_batcher):
        batcher, slow = make_batcher(max_images=1), Slow()
        batcher.engine.policy = safety.Policy(mode="block", image_checkers=[slow])

        def slow_down(update) -> None:
            slow.slow = ((96, 96),)

        held = batcher.submit(request(1, 4, size=96), on_update=slow_down)
        assert slow.entered.wait(WAIT)
        assert held.state == "finishing"
        assert batcher.submit(request(2)).result(WAIT)
        assert not held.future.done()
        assert not batcher.idle
        slow.leave.set()
        assert held.result(WAIT)

    def test_a_cancelled_edit_does_not_wait_for_its_check(self, make_batcher):
        batcher, slow = make_batcher(), Slow("a red cat")
        batcher.engine.policy = safety.Policy(mode="block", text_checkers=[slow])
        ticket = batcher.submit(request())
        assert slow.entered.wait(WAIT)
        batcher.cancel(ticket)
        with pytest.raises(errors.Cancelled):
            ticket.result(WAIT)
        slow.leave.set()


class TestModels:
    def test_the_least_recently_used_leaves(self, make_engine):
        cache = ModelCache(lambda name: make_engine("sd2").model(), budget=2 * size_of(make_engine))
        for name in ("a", "b", "a", "c"):
            cache.get(name)
        assert cache.names == ["a", "c"]
        assert (cache.hits, cache.misses) == (1, 3)
        assert cache.size == 2 * size_of(make_engine)

    def test_busy_models_stay(self, make_engine):
        cache = ModelCache(lambda name: make_engine("sd2").model(), budget=size_of(make_engine))
        busy = cache.get("a")
        with pytest.raises(errors.Overloaded):
            cache.get("b", busy=[busy])
        assert cache.names == ["a"]

    @pytest.mark.parametrize("leaves", ["for another one", "for want of memory"])
    @pytest.mark.usefixtures("garbage_search")
    def test_what_was_set_aside_may_be_garbage_when_a_model_leaves(self, make_engine, leaves):
        cache = ModelCache(lambda name: make_engine("sd2").model(), budget=size_of(make_engine))
        model = cache.get("a")
        garbage.set_aside()
        assert gc.get_freeze_count() > 0
        if leaves == "for another one":
            cache.get("b")
        else:
            cache.make_room(model)
        assert gc.get_freeze_count() == 0

    def test_what_others_set_aside_stays_so(self, make_engine):
        cache = ModelCache(lambda name: make_engine("sd2").model(), budget=size_of(make_engine))
        model = cache.get("a")
        gc.freeze()
        garbage.set_aside()
        cache.make_room(model)
        assert gc.get_freeze_count() > 0

    def test_a_model_larger_than_the_budget_is_refused(self, make_engine):
        cache = ModelCache(lambda name: make_engine("sd2").model(), budget=10)
        with pytest.raises(errors.OutOfMemory):
            cache.get("a")

    def test_room_is_made_where_loading_finds_none(self, make_engine):
        def load(name):
            if len(cache.names) == 1:
                raise errors.OutOfMemory("full")
            return make_engine("sd2").model()

        cache = ModelCache(load)
        cache.get("a")
        cache.get("b")
        assert cache.names == ["b"]

    def test_edits_of_many_models_take_turns_in_little_memory(self, make_engine):
        engine = Engine(lambda name: make_engine("sd2").model(), "a", budget=size_of(make_engine))
        batcher = Batcher(engine)
        names = ["a", "b", "a", "c", "b", "a"]
        tickets = [batcher.submit(request(model=name, steps=3)) for name in names]
        for ticket in tickets:
            assert ticket.result(WAIT)
        assert len(engine.models.names) == 1
        batcher.close()


def size_of(make_engine) -> int:
    return sum(make_engine("sd2").model().checkpoint.sizes().values())
