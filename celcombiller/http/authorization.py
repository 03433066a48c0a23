"""Access rules of routes: levels, scopes of tokens, ownership."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celcombiller.core.access.principal import Principal, Scope
from celcombiller.core.errors import Forbidden, NotAuthenticated
from celcombiller.core.model.subscribers import Level

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Who may use a route: principals of these levels, with a token of this scope.

    ``own``: a subscriber may use it for their own records only. ``loopback``: programs on this machine may use it
    without a login if the setting ``rest.balance_checks`` allows it.
    """

    scope: Scope
    levels: frozenset[Level]
    own: bool = False
    loopback: bool = False


_STAFF = frozenset({Level.ADMINISTRATOR, Level.COLLABORATOR})


ANYBODY: AccessRule | None = None


ADMINISTRATORS = AccessRule(Scope.ADMIN, frozenset({Level.ADMINISTRATOR}))


STAFF_READ = AccessRule(Scope.READ, _STAFF)


STAFF_WRITE = AccessRule(Scope.WRITE, _STAFF)


OWN_READ = AccessRule(Scope.READ, frozenset(Level), own=True)


OWN_WRITE = AccessRule(Scope.WRITE, frozenset(Level), own=True)


NETWORK = AccessRule(Scope.AGI, _STAFF, loopback=True)
"""For scripts of the network, which ask for balances by IMSI."""


_HELD = {
    Scope.READ: {Scope.READ, Scope.WRITE, Scope.ADMIN},
    Scope.WRITE: {Scope.WRITE, Scope.ADMIN},
    Scope.AGI: {Scope.AGI, Scope.ADMIN},
    Scope.ADMIN: {Scope.ADMIN},
}
"""The scopes of a token that satisfy each scope of a rule."""


def check_access(
    who: Principal | None, rule: AccessRule | None, path: Mapping[str, Any], *, loopback: bool = False
) -> None:
    """Raise `NotAuthenticated` or `Forbidden` unless ``who`` may use a route with this rule at this address.

    ``loopback``: a program on this machine sent the request, and the settings trust those.
    """
    if rule is None or (loopback and rule.loopback):
        return
    if who is None:
        raise NotAuthenticated("log in (POST /login) or send a token (Authorization: Bearer …)")
    if who.level not in rule.levels:
        raise Forbidden("your level does not allow this")
    if who.scopes is not None and not who.scopes & _HELD[rule.scope]:
        raise Forbidden(f"the token has not the scope {rule.scope}")
    if rule.own and not who.is_staff and path.get("username", who.username) != who.username:
        raise Forbidden("this is somebody else's")
