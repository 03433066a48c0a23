"""``celcombiller serve``: another word for the line of twistd that runs the biller in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.cli.common import open_database
from celcombiller.core.errors import StoreUnavailable

if TYPE_CHECKING:
    import argparse

    from celcombiller.config.tables import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``serve``."""
    parser.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace, config: Config) -> int:
    """Become the biller: this process goes on as ``twistd --nodaemon --pidfile= celcombiller``."""
    open_database(config).dispose()
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise StoreUnavailable(f"{twistd}: there is no such program: install Twisted")
    chosen = [] if arguments.config is None else ["--config", str(arguments.config)]
    sys.stdout.flush()
    os.execv(twistd, [str(twistd), "--nodaemon", "--pidfile=", "celcombiller", *chosen])  # noqa: S606
