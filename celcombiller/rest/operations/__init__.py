"""The routes of operations: /healthz, /readyz and /metrics."""
