"""How much a property or a state machine is tried: by Hypothesis's profile (see tests/conftest.py), not by a literal."""

from hypothesis import settings


def share(part, *, least=3, **more):
    """Return settings with this part of the profile's examples: less for what is costly, more for what is cheap."""
    return settings(max_examples=max(least, round(part * settings.default.max_examples)), **more)


def is_nightly():
    """Return whether this is a run by night, in which everything is tried as long as it takes."""
    return settings.default.max_examples >= settings.get_profile("nightly").max_examples
