"""``celcombiller settings``: the settings in force, and where each comes from."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from celcombiller.cli.common import print_rows
from celcombiller.config.settings_in_force import list_settings, read_origins

if TYPE_CHECKING:
    import argparse

    from celcombiller.config.tables import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``settings``."""
    parser.set_defaults(run=_list)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _list(arguments: argparse.Namespace, config: Config) -> int:
    """List the settings that a biller started here and now would have. Secrets are hidden."""
    rows = [asdict(each) for each in list_settings(config, read_origins(arguments.config, os.environ))]
    if not arguments.json:
        for row in rows:
            row["setting"] = ".".join(str(row[name]) for name in ("table", "position", "key") if row[name] is not None)
            row["value"] = "(hidden)" if row["is_hidden"] else row["value"]
    print_rows(rows, ("setting", "value", "source"), as_json=arguments.json)
    return 0
