"""The script ``balance``: the caller's available balance, in channel variables and aloud."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger

from celcombiller.asterisk import balance_prompts, channel_variables
from celcombiller.asterisk.agi.codec import AgiCommandRefused
from celcombiller.asterisk.agi.commands import arguments_of, ask
from celcombiller.asterisk.scripts.channel import NAMESPACE, refuse
from celcombiller.core.errors import BillerError, StoreUnavailable, UnknownSubscriber
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.asterisk.pending_updates import PendingUpdates
    from celcombiller.config.tables import Config
    from celcombiller.database.reader import Reader

_LOG = Logger(namespace=NAMESPACE)

_QUIET = "quiet"
"""The argument of ``balance`` that has it set variables only."""


class BalanceScript:
    """Reports the caller's available balance. It only reads."""

    def __init__(self, config: Config, reader: Reader, updates: PendingUpdates) -> None:
        self._config = config
        self._reader = reader
        self._updates = updates

    async def __call__(self, agi: Any) -> None:
        """Report the balance in channel variables, and aloud unless the dialplan wants it quiet.

        Without a prompt, who is refused hears nothing here; the dialplan knows by the result.
        """
        (code,) = await ask(agi, "${CHANNEL(accountcode)}")
        words = [code or agi.variables.get("agi_accountcode", ""), agi.variables.get("agi_callerid", "")]
        asked: Deferred[Mapping[str, int] | None] = Deferred.fromCoroutine(self._available(*words))
        try:
            available = await self._updates.with_timeout(asked, self._config.calls.decision_seconds)
        except Exception as error:  # noqa: BLE001  the dialplan waits for a result, whatever it is
            expected = isinstance(error, StoreUnavailable | TimeoutError)
            say = _LOG.error if expected else _LOG.failure
            reason = str(error) or type(error).__name__
            say("Nobody can be told his balance: {error}", error=reason)
            asked.addErrback(lambda _late: None)
            await refuse(agi, self._config.prompts, BillerError.code)
            return
        if available is None:
            await refuse(agi, self._config.prompts, UnknownSubscriber.code)
            return
        voice = available[Kind.VOICE]
        values = {
            channel_variables.VOICE_BALANCE: voice,
            channel_variables.DATA_BALANCE: available[Kind.DATA],
            channel_variables.SMS_BALANCE: available[Kind.SMS],
            channel_variables.BALANCE: voice,
        }
        await agi.execute("MSET", *(f"{name}={value}" for name, value in values.items()))
        if _QUIET not in arguments_of(agi):
            await self._say_balance(agi, available)

    async def _available(self, code: str, number: str) -> Mapping[str, int] | None:
        """Return what the subscriber of this account code or number has available of each kind."""
        rows = await self._reader.fetch(sa.select(tables.subscriber).where(Directory.is_named_by((code, number))))
        payer = Directory(map(subscriber_from_row, rows)).find_payer(code, number)
        if payer is None:
            return None
        table = tables.account
        available = (table.c.posted - table.c.held - table.c.floor).label("available")
        own = (table.c.subscriber_id == payer.id, table.c.kind.in_(Kind))
        accounts = await self._reader.fetch(sa.select(table.c.kind, available).where(*own))
        found = {row.kind: row.available for row in accounts}
        return found | (await self._bundles(payer.id) if self._config.balance.bundles_intro else {})

    async def _bundles(self, subscriber_id: int) -> dict[str, int]:
        """Return what is available in all the subscriber's bundles that pay now, by kind."""
        table, bundle, now = tables.account, tables.bundle, datetime.now(UTC)
        query = (
            sa.select(table.c.kind, sa.func.sum(table.c.posted - table.c.held).label("available"))
            .join(bundle, bundle.c.account_id == table.c.id)
            .where(
                bundle.c.subscriber_id == subscriber_id,
                bundle.c.ended_at.is_(None),
                bundle.c.valid_from <= now,
                bundle.c.valid_until > now,
            )
            .group_by(table.c.kind)
        )
        return {row.kind: int(row.available) for row in await self._reader.fetch(query)}

    async def _say_balance(self, agi: Any, available: Mapping[str, int]) -> None:
        settings = self._config.balance
        try:
            await agi.answer()
        except (AgiCommandRefused, ConnectionClosed):  # the caller has hung up
            return
        words = [
            *balance_prompts.balance(available[Kind.VOICE], settings.style, intro=settings.intro, unit=settings.unit)
        ]
        if self._config.sms.terms.account is Kind.SMS:
            words += balance_prompts.messages(available[Kind.SMS], unit=settings.sms_unit)
        if settings.bundles_intro:
            words += balance_prompts.bundles(
                available.get(BundleKind.SECONDS),
                available.get(BundleKind.MESSAGES),
                intro=settings.bundles_intro,
                unit=settings.sms_unit,
            )
        lacking = await balance_prompts.say(agi, words)
        if lacking:
            _LOG.warn(
                "A balance was told without {sounds}: no such sounds in {language!r}",
                sounds=", ".join(f"{each.verb} {each.what}" for each in lacking),
                language=agi.variables.get("agi_language", ""),
            )
