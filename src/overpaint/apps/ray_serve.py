"""The server as a Ray Serve deployment: replicas, autoscaling, backpressure.

    serve run overpaint.apps.ray_serve:app replicas=2
    python -m overpaint.apps.ray_serve --replicas 1 --most 8

Each replica is the whole application with an engine and a batcher of its own. Replicas share one
address, so a client that comes back may reach another one: asynchronous edits and idempotency keys
are refused here (docs/serving.md).
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import BackpressureConfig

from overpaint.apps import process
from overpaint.apps import settings as settings_
from overpaint.apps.server.app import create_app
from overpaint.apps.server.logs import configure
from overpaint.apps.settings import Settings, is_loopback
from overpaint.core.errors import OverpaintError

BUSY_SHARE = 0.5
"""Share of a replica's queue that autoscaling aims at: below it replicas leave, above it come."""


def deployment(
    settings: Settings,
    *,
    replicas: int = 1,
    most: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
    loopback_only: bool = True,
) -> serve.Application:
    """The application, to be given to `serve.run`.

    Args:
        settings: all of them; every replica gets the same.
        replicas: how many there are, or with `most` the fewest.
        most: autoscale up to so many, by the number of edits that each replica has.
        cpus, gpus: what each replica takes of its machine.
        loopback_only: refuse requests by other host names than localhost.

    Raises:
        InvalidSettings, ModelNotFound, ModelLoadError: as for the server.
    """
    limits = settings.server
    ongoing = limits.max_queued + limits.max_images_under_way

    def build() -> FastAPI:
        configure()
        application = create_app(settings, loopback_only=loopback_only, alone=False)
        if not loopback_only:
            application.state.service.warn_of_licences()
        return application

    deployed = serve.deployment(
        serve.ingress(build)(),
        name="overpaint",
        # A replica's own queue answers 429 first; so does Ray to what it would hold back beyond it.
        max_ongoing_requests=2 * ongoing,
        max_queued_requests=ongoing,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=5),
        graceful_shutdown_timeout_s=limits.timeout_s,
        graceful_shutdown_wait_loop_s=1,
        health_check_period_s=2,
        health_check_timeout_s=30,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        **_scale(replicas, most, BUSY_SHARE * ongoing),
    )
    return deployed.bind()


def app(arguments: Mapping[str, str]) -> serve.Application:
    """For `serve run` and Serve's configuration files: `replicas`, `most`, `cpus`, `gpus`."""
    return deployment(
        settings_.load(),
        replicas=int(arguments.get("replicas", 1)),
        most=int(arguments["most"]) if "most" in arguments else None,
        cpus=float(arguments.get("cpus", 1)),
        gpus=float(arguments.get("gpus", 0)),
    )


def _scale(replicas: int, most: int | None, target: float) -> dict[str, Any]:
    if most is None:
        return {"num_replicas": replicas}
    return {
        "autoscaling_config": {
            "min_replicas": replicas,
            "max_replicas": most,
            "target_ongoing_requests": target,
        }
    }


def main() -> None:
    """Serve on the Ray cluster of this machine until a signal ends it."""
    process.take()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--most", type=int, help="scale up to this many replicas")
    parser.add_argument("--cpus", type=float, default=1, help="of each replica")
    parser.add_argument("--gpus", type=float, default=0, help="of each replica")
    arguments = parser.parse_args()
    try:
        settings = settings_.load()
        settings.server.check_address(arguments.host)
        application = deployment(
            settings,
            replicas=arguments.replicas,
            most=arguments.most,
            cpus=arguments.cpus,
            gpus=arguments.gpus,
            loopback_only=is_loopback(arguments.host),
        )
    except OverpaintError as error:
        raise SystemExit(f"Error: {error}") from None
    serve.start(http_options={"host": arguments.host, "port": arguments.port})
    serve.run(application, name="overpaint", route_prefix="/")
    stop_event = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop_event.set())
    stop_event.wait()
    serve.shutdown()


if __name__ == "__main__":
    main()
