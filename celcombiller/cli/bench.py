"""Bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.bench import report as benchmark

if TYPE_CHECKING:
    import argparse

    from celcombiller.config.tables import Config


def run_bench(arguments: argparse.Namespace, _config: Config) -> int:
    """Measure the biller on this machine."""
    return benchmark.bench(arguments)
