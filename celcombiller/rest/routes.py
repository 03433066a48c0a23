"""All routes."""

from __future__ import annotations

from celcombiller.rest.legacy.routes import LEGACY_ROUTES
from celcombiller.rest.operations.routes import OPERATIONS_ROUTES
from celcombiller.rest.v1.routes import V1_ROUTES

ROUTES = (*OPERATIONS_ROUTES, *V1_ROUTES, *LEGACY_ROUTES)
