"""Levels, scopes, ownership."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celcombiller.core.access.principal import Principal, Scope
from celcombiller.core.errors import Forbidden, NotAuthenticated
from celcombiller.core.model.subscribers import Level

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Who:
    """Who may use a route. ``own``: a subscriber may, for what is his own; ``scope``: what a token must have.

    ``near``: any program of this machine may too, where the settings say so (`rest.balance_checks`).
    """

    scope: Scope
    levels: frozenset[Level]
    own: bool = False
    near: bool = False


_STAFF = frozenset({Level.ADMINISTRATOR, Level.COLLABORATOR})


ANYBODY: Who | None = None


ADMINISTRATORS = Who(Scope.ADMIN, frozenset({Level.ADMINISTRATOR}))


STAFF_READ = Who(Scope.READ, _STAFF)


STAFF_WRITE = Who(Scope.WRITE, _STAFF)


OWN_READ = Who(Scope.READ, frozenset(Level), own=True)


OWN_WRITE = Who(Scope.WRITE, frozenset(Level), own=True)


NETWORK = Who(Scope.AGI, _STAFF, near=True)
"""What the network's own scripts ask: balances by IMSI."""


_HELD = {
    Scope.READ: {Scope.READ, Scope.WRITE, Scope.ADMIN},
    Scope.WRITE: {Scope.WRITE, Scope.ADMIN},
    Scope.AGI: {Scope.AGI, Scope.ADMIN},
    Scope.ADMIN: {Scope.ADMIN},
}
"""Which scopes of a token are good for which need."""


def check_may(who: Principal | None, rule: Who | None, path: Mapping[str, Any], *, near: bool = False) -> None:
    """Raise `NotAuthenticated` or `Forbidden` unless ``who`` may use a route with this rule at this address.

    ``near``: a program of this machine asks, and the settings trust those.
    """
    if rule is None or (near and rule.near):
        return
    if who is None:
        raise NotAuthenticated("log in (POST /login) or send a token (Authorization: Bearer …)")
    if who.level not in rule.levels:
        raise Forbidden("your level does not allow this")
    if who.scopes is not None and not who.scopes & _HELD[rule.scope]:
        raise Forbidden(f"the token has not the scope {rule.scope}")
    if rule.own and not who.is_staff and path.get("username", who.username) != who.username:
        raise Forbidden("this is somebody else's")
