"""`/metrics` for Prometheus, and `/healthz`."""

from __future__ import annotations

from collections import Counter

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from racksack_controller.web.api_controller import node_views
from racksack_controller.web.caller import NOBODY
from racksack_controller.web.context import CONTEXT, Context
from racksack_jobspecs.states import ACTIVE, WAITING, NodeState

routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """200 while the loop saves what it decides, else 503 with the reason."""
    problem = request.app[CONTEXT].loop.unsaved_reason
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Everything as gauges, worked out from the state when asked."""
    registry = CollectorRegistry()
    _jobs(registry, request.app[CONTEXT])
    _nodes(registry, request.app[CONTEXT])
    return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})


def _jobs(registry: CollectorRegistry, context: Context) -> None:
    counts = Counter(str(job.state) for job in context.state.jobs.values())
    gauge = Gauge("racksack_jobs", "Jobs that are not over, by state.", ["state"], registry=registry)
    for state in sorted(WAITING | ACTIVE):
        gauge.labels(state).set(counts[state])


def _nodes(registry: CollectorRegistry, context: Context) -> None:
    up = Gauge(
        "racksack_node_state",
        "1 for the state that the node is in, 0 for others.",
        ["node", "state"],
        registry=registry,
    )
    used = Gauge("racksack_node_allocated", "Allocated to jobs.", ["node", "resource"], registry=registry)
    total = Gauge("racksack_node_capacity", "Capacity available to jobs.", ["node", "resource"], registry=registry)
    for node in node_views(context, NOBODY):
        for state in NodeState:
            up.labels(node["name"], str(state)).set(node["state"] == state)
        for resource in ("cpus", "ram_bytes"):
            used.labels(node["name"], resource).set(node[resource]["used"])
            total.labels(node["name"], resource).set(node[resource]["total"])
        used.labels(node["name"], "gpus").set(sum(gpu["job"] is not None for gpu in node["gpus"]))
        total.labels(node["name"], "gpus").set(len(node["gpus"]))
