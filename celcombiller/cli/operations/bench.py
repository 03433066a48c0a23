"""``celcombiller bench``: measure the biller on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.bench import report

if TYPE_CHECKING:
    import argparse

    from celcombiller.config.tables import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bench``."""
    parser.set_defaults(run=_bench)
    report.add_arguments(parser)


def _bench(arguments: argparse.Namespace, _config: Config) -> int:
    return report.bench(arguments)
