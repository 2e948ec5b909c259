"""Prometheus metrics of one server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import psutil
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from overpaint.checkpoints.placement import devices_for, taken_memory
from overpaint.engine.batching.observer import Observer

if TYPE_CHECKING:
    from overpaint.engine.batching.batcher import Batcher

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics(Observer):
    """What a server counts; it listens to its batcher."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._step = self._histogram("step_seconds", "Time of a denoising pass", _FAST)
        self._batch = self._histogram("batch_images", "Images of a denoising pass", range(1, 9))
        self._admission = self._histogram(
            "admission_wait_seconds", "Time in the queue before encoding", _SLOW
        )
        self._first = self._histogram(
            "first_step_seconds", "Time from acceptance to the first step", _SLOW
        )
        self._edit = Histogram(
            "overpaint_edit_seconds",
            "Time from acceptance to the result",
            ["model"],
            buckets=_SLOW,
            registry=self.registry,
        )
        self._images = Counter(
            "overpaint_images",
            "Images by model and outcome",
            ["model", "outcome"],
            registry=self.registry,
        )
        self._requests = Counter(
            "overpaint_http_requests",
            "HTTP requests by method, route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )

    def watch(self, batcher: Batcher) -> None:
        """Show the batcher's queue, memory and cache from now on."""
        self.registry.register(_Gauges(batcher))

    def admitted(self, waited: float) -> None:
        self._admission.observe(waited)

    def first_step(self, waited: float) -> None:
        self._first.observe(waited)

    def stepped(self, images: int, seconds: float) -> None:
        self._step.observe(seconds)
        self._batch.observe(images)

    def finished(self, model: str, outcome: str, images: int, seconds: float) -> None:
        """An accepted edit came to its end: 'done' or an error's code."""
        self._images.labels(model, outcome).inc(images)
        self._edit.labels(model).observe(seconds)

    def requested(self, method: str, route: str, status: int) -> None:
        """A request was answered; 0 = its caller had gone."""
        label = method if method in {"GET", "POST", "DELETE", "HEAD", "OPTIONS"} else "other"
        self._requests.labels(label, route, str(status)).inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, about: str, buckets: Iterable[float]) -> Histogram:
        return Histogram(f"overpaint_{name}", about, buckets=tuple(buckets), registry=self.registry)


class _Gauges(Collector):
    """Read when asked for."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._process = psutil.Process()

    def collect(self) -> Iterable[Metric]:
        batcher, caches = self._batcher, [each.models for each in self._batcher.engines]
        yield GaugeMetricFamily("overpaint_queue_edits", "Edits that wait", batcher.queued)
        yield GaugeMetricFamily("overpaint_images_under_way", "Images in work", batcher.images)
        yield GaugeMetricFamily("overpaint_models_loaded", "Models in memory", len(batcher.loaded))
        size = sum(models.size for models in caches)
        yield GaugeMetricFamily("overpaint_model_bytes", "Weights in memory", size)
        resident = self._process.memory_info().rss
        yield GaugeMetricFamily("overpaint_resident_bytes", "Memory of the process", resident)
        yield from _of_devices(batcher)
        lookups = CounterMetricFamily(
            "overpaint_model_cache", "Lookups of loaded models", labels=["outcome"]
        )
        lookups.add_metric(["hit"], sum(models.hits for models in caches))
        lookups.add_metric(["miss"], sum(models.misses for models in caches))
        yield lookups
        encodings = [models.encodings for models in caches]
        size = sum(each.size for each in encodings)
        yield GaugeMetricFamily("overpaint_encoding_bytes", "Remembered encodings", size)
        lookups = CounterMetricFamily(
            "overpaint_encoding_cache", "Lookups of encoded texts, pictures", labels=["outcome"]
        )
        lookups.add_metric(["hit"], sum(each.hits for each in encodings))
        lookups.add_metric(["miss"], sum(each.misses for each in encodings))
        yield lookups


def _of_devices(batcher: Batcher) -> Iterable[Metric]:
    labels = ["device"]
    up = GaugeMetricFamily("overpaint_device_up", "1 = used, 0 = it failed", labels=labels)
    images = GaugeMetricFamily("overpaint_device_images", "Images in work", labels=labels)
    passes = CounterMetricFamily("overpaint_device_passes", "Denoising passes", labels=labels)
    weights = GaugeMetricFamily("overpaint_device_model_bytes", "Weights", labels=labels)
    bytes_gauge = GaugeMetricFamily(
        "overpaint_device_bytes", "Memory taken on a card", labels=labels
    )
    for device in batcher.devices:
        name = [device.engine.device]
        up.add_metric(name, float(device.serves))
        images.add_metric(name, device.images)
        passes.add_metric(name, device.passes)
        weights.add_metric(name, device.engine.models.size)
        size = taken_memory(devices_for(device.engine.device)[0]) if device.serves else None
        if size is not None:
            bytes_gauge.add_metric(name, size)
    yield from (up, images, passes, weights, bytes_gauge)
