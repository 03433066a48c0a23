"""`python -m tests.chaos`: chaos for as long as one likes; see docs/contributing/chaos.md."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run
from tests.system.lab.asterisk import Asterisk


def main() -> int:
    """Run once; return 1 if a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long calls and faults go on")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", default="", help="the seed of an earlier run")
    parser.add_argument("--rate", type=float, default=20.0, help="calls that begin in a second")
    parser.add_argument("--every", type=float, default=1.5, help="seconds between two faults, on average")
    parser.add_argument("--real", action="store_true", help="make the calls on the real Asterisk of the tests")
    parser.add_argument("--only", nargs="*", default=(), help="the names of the faults that may happen")
    words = parser.parse_args()
    seed = words.seed or str(random.SystemRandom().randrange(10**9))
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="celcombiller-chaos-"))
    folder.chmod(0o755)
    pbx = Asterisk() if words.real else None
    try:
        if pbx is not None:
            pbx.begin()
        outcome = run(
            folder,
            seed,
            words.seconds,
            words.database,
            pbx=pbx,
            rate=words.rate,
            every_seconds=words.every,
            only=words.only,
        )
    finally:
        if pbx is not None:
            pbx.remove()
    print(outcome)
    print(f"folder: {folder}")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
