"""How the URL of a database is shown: without its passwords."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

_SECRET = re.compile(r"pass(word|wd)?\Z", re.IGNORECASE)
"""The ends of the names of libpq's parameters that are secrets: ``password``, ``sslpassword`` (libpq, 34.1.2)."""


def show_url(url: str | sa.URL) -> str:
    """Return a database's URL with ``***`` in place of each password, also of one that is a parameter.

    Text that is no URL is not shown at all: it may be a password that was written in the wrong place.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        return "***"
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database or ":memory:")
    hidden = {name: "***" for name in parsed.query if _SECRET.search(name)}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)
