"""Who holds the service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """Who a subscriber is to the operator, with the numbers of the original program."""

    ADMINISTRATOR = 0
    SUBSCRIBER = 1
    COLLABORATOR = 2


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who holds the service. Identity numbers are text: leading zeros count."""

    id: int
    username: str
    name: str
    clid: str
    imsi: str
    cpf: str | None
    address: str
    level: Level
    enabled: bool
