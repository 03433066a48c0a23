"""The routes /healthz, /readyz and /metrics."""

from __future__ import annotations

from celcombiller.http.authorization import (
    ANYBODY,
    STAFF_READ,
)
from celcombiller.http.route import Route
from celcombiller.rest.operations import health, metrics
from celcombiller.runtime.metrics import MEDIA_TYPE

OPERATIONS_ROUTES = (
    Route(method="GET", path="/healthz", who=ANYBODY, serve=health.healthz, answer=health.Alive),
    Route(
        method="GET",
        path="/readyz",
        who=ANYBODY,
        serve=health.readyz,
        answer=health.Ready,
        other_answers={503: health.Ready},
    ),
    Route(
        method="GET",
        path="/metrics",
        who=STAFF_READ,
        serve=metrics.metrics,
        free=metrics.is_free,
        answer=str,
        answer_type=MEDIA_TYPE,
    ),
)
