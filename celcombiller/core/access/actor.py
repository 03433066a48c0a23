"""The author of a change, and what they may change.

Every function that changes rights or credit for somebody takes the author and checks it in the transaction of the
change. So each way to a change is checked alike: today's API, the original's, and the operator's command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.core.errors import Forbidden, PasswordNeeded
from celcombiller.core.model.subscribers import Level

if TYPE_CHECKING:
    from collections.abc import Collection

    from celcombiller.core.model.subscribers import Subscriber

ALL_LEVELS = frozenset(Level)
"""What an administrator manages who is not narrowed by scopes, and the operator's command."""


OWN_FIELDS = {"name", "address", "language", "password"}
"""The fields of their own that subscribers and collaborators may change."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change: a username and an IP address, or ``command`` and the operating system's user.

    ``manages``: the levels of the subscribers that they may add, change, credit and delete. ``subscriber_id``: their
    own, if they may change their own fields. ``sets_own_password``: whether the password is one of these fields.
    ``asked_from``: from so many credits on they must give their password again before they move them; 0: never.
    """

    name: str
    address: str
    manages: frozenset[Level] = frozenset()
    subscriber_id: int | None = None
    sets_own_password: bool = False
    asked_from: int = 0

    @property
    def administers(self) -> bool:
        """Whether they manage every level."""
        return self.manages == ALL_LEVELS

    def check_manages(self, *levels: Level) -> None:
        """Raise `Forbidden` unless they may make, change and credit subscribers of these levels.

        An administrator's token without the scope ``admin`` manages what a collaborator manages. With a password that
        it set for one of the staff it could open a session, which has all scopes.
        """
        if not self.manages.issuperset(levels):
            raise Forbidden("only an administrator, not narrowed by scopes, manages administrators and collaborators")

    def check_administers(self) -> None:
        """Raise `Forbidden` unless they manage every level."""
        self.check_manages(*ALL_LEVELS)

    def check_amount(self, amount: int) -> None:
        """Raise `PasswordNeeded` if they must give their password again before they give or take so many credits."""
        if 0 < self.asked_from <= abs(amount):
            raise PasswordNeeded("this is a large credit: give your password again")

    def check_changes(self, subscriber: Subscriber, fields: Collection[str], level: Level) -> None:
        """Raise `Forbidden` unless they may change these fields of a subscriber, who then has this ``level``.

        A token without the scope ``admin`` does not set the password of its owner either.
        """
        if self.subscriber_id != subscriber.id:
            self.check_manages(subscriber.level, level)
            return
        if not self.administers and set(fields) - OWN_FIELDS:
            raise Forbidden(f"of oneself one may change {', '.join(sorted(OWN_FIELDS))}")
        if not self.sets_own_password and "password" in fields:
            raise Forbidden("one's own password is changed with a session or the scope admin")
