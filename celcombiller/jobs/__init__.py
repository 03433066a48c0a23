"""Periodic background work, each job a service."""
