"""alchimia on SQLAlchemy 2: alchimia 0.8.1 imports a class that SQLAlchemy 2 removed, and that is not used here."""

from __future__ import annotations

from sqlalchemy.engine import strategies

if not hasattr(strategies, "DefaultEngineStrategy"):
    strategies.DefaultEngineStrategy = type("DefaultEngineStrategy", (), {})  # type: ignore[attr-defined]

from alchimia.engine import TwistedEngine

__all__ = ["TwistedEngine"]
