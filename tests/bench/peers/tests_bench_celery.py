"""Celery's application for the benchmark; its worker finds Redis in BENCH_REDIS."""

from __future__ import annotations

import os
from typing import Any

import sweep_driver
from celery import Celery


def application(socket: str) -> Any:
    """One task that computes a chunk."""
    app = Celery("bench", broker=f"redis+socket://{socket}", backend=f"redis+socket://{socket}")
    app.conf.update(worker_prefetch_multiplier=1, task_serializer="pickle", result_serializer="pickle")
    app.conf.update(
        accept_content=["pickle"], result_accept_content=["pickle"], broker_connection_retry_on_startup=True
    )

    @app.task(name="compute")
    def compute(chunk: tuple[int, int, float]) -> list[dict[str, float]]:
        return sweep_driver.compute(tuple(chunk))

    return app


worker_app = application(os.environ["BENCH_REDIS"]) if "BENCH_REDIS" in os.environ else None
