"""Checks of calls, messages and data sessions against the ledger.

Each check is a query that returns no rows when its law holds. Checks only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, name_account
from celcombiller.core.data.session import ORIGIN, REFERENCE_CHARACTERS
from celcombiller.core.ledger.book import REVERSAL
from celcombiller.core.model.accounts import HoldState, Kind
from celcombiller.core.model.calls import BY_CDR, SHARE, CallState, Witness
from celcombiller.core.model.messages import MessageState
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account = tables.account


transfer = tables.transfer


hold = tables.hold


call = tables.call


message = tables.message


data = tables.data_session


def check_calls(tx: Connection) -> Iterator[Difference]:
    """Check law 5: a call and its hold end together, in the same state."""
    rows = tx.execute(
        sa.select(call.c.reference, call.c.state, hold.c.state.label("hold_state"))
        .outerjoin(hold, hold.c.reference == call.c.reference)
        .where(sa.or_(hold.c.state.is_(None), hold.c.state != call.c.state))
        .order_by(call.c.id)
    )
    for row in rows:
        yield Difference("a call's hold is in the call's state", row.reference, row.state, row.hold_state)


def check_charges(tx: Connection) -> Iterator[Difference]:
    """Check law 4: a settled call is charged its cost once, to its account; any other call is not charged."""
    charged = sa.func.coalesce(transfer.c.amount, 0)
    expected = sa.case((call.c.state == CallState.SETTLED, call.c.cost), else_=0)
    rows = tx.execute(
        sa.select(call.c.reference, expected.label("expected"), charged.label("charged"))
        .outerjoin(transfer, transfer.c.reference == call.c.reference)
        .where(sa.or_(charged != expected, transfer.c.debit_account_id != call.c.account_id))
        .order_by(call.c.id)
    )
    for row in rows:
        yield Difference("a call is charged its cost", row.reference, row.expected, row.charged)
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(call, call.c.reference == transfer.c.reference)
        .where(transfer.c.reference.like("call:%"), call.c.id.is_(None))
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a call's charge has a call", stray.reference, None, stray.amount)


def check_cdr_witnesses(tx: Connection) -> Iterator[Difference]:
    """Check that a call that a CDR settled has its report, which names where the record stands."""
    report = tables.testimony
    is_named = sa.and_(report.c.reference == call.c.reference, report.c.witness == Witness.CDR.value)
    rows = tx.execute(
        sa.select(call.c.reference, report.c.note)
        .outerjoin(report, is_named)
        .where(
            call.c.witness == Witness.CDR.value,
            sa.or_(report.c.note.is_(None), sa.not_(report.c.note.startswith(BY_CDR, autoescape=True))),
        )
        .order_by(call.c.id)
    )
    for row in rows:
        yield Difference("a call that a CDR settled names its record", row.reference, f"{BY_CDR}…", row.note)


_HOLD_OF_MESSAGE = {
    MessageState.QUEUED: HoldState.OPEN,
    MessageState.SENDING: HoldState.OPEN,
    MessageState.ACCEPTED: HoldState.SETTLED,
    MessageState.DELIVERED: HoldState.SETTLED,
    MessageState.FAILED: HoldState.SETTLED,
    MessageState.REFUSED: HoldState.RELEASED,
    MessageState.EXPIRED: HoldState.EXPIRED,
}


_IS_CHARGED = message.c.state.in_([state for state, held in _HOLD_OF_MESSAGE.items() if held is HoldState.SETTLED])


def check_shares(tx: Connection) -> Iterator[Difference]:
    """Check that what a bundle pays for a use was held on it, for a use of its subscriber, and no more than that."""
    rows = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount, hold.c.amount.label("held"))
        .join(account, account.c.id == transfer.c.debit_account_id)
        .outerjoin(
            hold,
            sa.and_(
                hold.c.reference == transfer.c.reference,
                hold.c.account_id == account.c.id,
                hold.c.state == HoldState.SETTLED,
            ),
        )
        .where(
            transfer.c.reference.like(f"{SHARE}:%"),
            sa.or_(hold.c.amount.is_(None), sa.and_(hold.c.amount < transfer.c.amount, transfer.c.note == "")),
        )
        .order_by(transfer.c.id)
    )
    for row in rows:
        yield Difference("a bundle pays no more than it held, or says why", row.reference, row.held, row.amount)
    use = hold.alias()
    prefix = sa.literal(f"{SHARE}:").concat(sa.cast(hold.c.account_id, sa.Text)).concat(":")
    is_open, is_use_open = (each.c.state == HoldState.OPEN for each in (hold, use))
    uses = tx.execute(
        sa.select(hold.c.reference, hold.c.state, use.c.state.label("use_state"))
        .outerjoin(use, use.c.reference == sa.func.substr(hold.c.reference, sa.func.length(prefix) + 1))
        .where(
            hold.c.reference.like(f"{SHARE}:%"),
            sa.or_(use.c.state.is_(None), is_open != is_use_open, sa.not_(hold.c.reference.startswith(prefix))),
        )
        .order_by(hold.c.reference)
    )
    for each in uses:
        yield Difference("a bundle's hold is open as long as its use's", each.reference, each.use_state, each.state)


def check_messages(tx: Connection) -> Iterator[Difference]:
    """Check that a paid message has a hold of its cost, in the state that follows its own; a free one has none."""
    state = sa.case(*((message.c.state == each, held.value) for each, held in _HOLD_OF_MESSAGE.items()))
    expected = sa.case((message.c.account_id.is_not(None), state), else_=None)
    cost = sa.func.coalesce(message.c.charge, message.c.price * message.c.parts)
    rows = tx.execute(
        sa.select(message.c.reference, expected.label("expected"), hold.c.state, cost.label("cost"), hold.c.amount)
        .outerjoin(hold, hold.c.reference == message.c.reference)
        .where(sa.or_(expected.is_distinct_from(hold.c.state), hold.c.amount != cost))
        .order_by(message.c.id)
    )
    for row in rows:
        if row.expected == row.state:
            yield Difference("a message's hold is what it costs", row.reference, row.cost, row.amount)
        else:
            yield Difference("a message's hold is in the message's state", row.reference, row.expected, row.state)


def check_message_accounts(tx: Connection) -> Iterator[Difference]:
    """Check that a message is paid from its sender's voice or sms account, and held on the same one."""
    pays = sa.and_(account.c.subscriber_id == message.c.subscriber_id, account.c.kind.in_([Kind.VOICE, Kind.SMS]))
    rows = tx.execute(
        sa.select(message.c.reference, message.c.account_id, hold.c.account_id.label("held_of"))
        .join(account, account.c.id == message.c.account_id)
        .outerjoin(hold, hold.c.reference == message.c.reference)
        .where(sa.or_(sa.not_(pays), hold.c.account_id != message.c.account_id))
        .order_by(message.c.id)
    )
    for row in rows:
        paid, held = (None if each is None else name_account(tx, each) for each in (row.account_id, row.held_of))
        yield Difference("a message is paid and held by one account of its sender", row.reference, paid, held)


def check_message_charges(tx: Connection) -> Iterator[Difference]:
    """Check that an accepted message is charged once, and that one that failed later is refunded."""
    paid = sa.func.coalesce(message.c.charge, message.c.price * message.c.parts)
    cost = sa.case((message.c.account_id.is_not(None), paid), else_=0)
    refund = transfer.alias()
    charged, refunded = sa.func.coalesce(transfer.c.amount, 0), sa.func.coalesce(refund.c.amount, 0)
    to_charge = sa.case((_IS_CHARGED, cost), else_=0)
    failed = message.c.state == MessageState.FAILED
    rows = tx.execute(
        sa.select(
            *(message.c.reference, to_charge.label("to_charge"), charged.label("charged")),
            *(refunded.label("refunded"), failed.label("failed")),
        )
        .outerjoin(transfer, transfer.c.reference == message.c.reference)
        .outerjoin(refund, refund.c.reference == sa.literal(f"{REVERSAL}:") + message.c.reference)
        .where(
            sa.or_(
                charged != to_charge,
                transfer.c.debit_account_id != message.c.account_id,
                sa.and_(failed, refunded != to_charge),
                refund.c.credit_account_id != message.c.account_id,
            )
        )
        .order_by(message.c.id)
    )
    for row in rows:
        if row.failed and row.charged == row.to_charge:
            yield Difference("a failed message has its charge back", row.reference, row.to_charge, row.refunded)
        else:
            yield Difference("a message is charged what it costs", row.reference, row.to_charge, row.charged)
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(message, message.c.reference == transfer.c.reference)
        .where(transfer.c.reference.like("sms:%"), message.c.id.is_(None))
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a message's charge has a message", stray.reference, None, stray.amount)


def check_data_charges(tx: Connection) -> Iterator[Difference]:
    """Check law 4 of data: the transfers out of a session's account add up to the price of its octets."""
    of_session = sa.cast(sa.func.substr(transfer.c.reference, 1, REFERENCE_CHARACTERS), sa.Text)
    sums = (
        sa.select(
            of_session.label("reference"),
            sa.func.sum(transfer.c.amount).label("total"),
            sa.func.min(transfer.c.debit_account_id).label("account_id"),
            sa.func.max(transfer.c.debit_account_id).label("other_account_id"),
        )
        .where(transfer.c.reference.like(f"{ORIGIN}:%"))
        .group_by(of_session)
        .subquery()
    )
    charged = sa.func.coalesce(sums.c.total, 0)
    price = (data.c.octets + data.c.octets_per_credit - 1) // data.c.octets_per_credit
    other_account = sa.or_(sums.c.account_id != data.c.account_id, sums.c.other_account_id != data.c.account_id)
    rows = tx.execute(
        sa.select(data.c.reference, data.c.charged, price.label("price"), charged.label("transferred"))
        .outerjoin(sums, sums.c.reference == data.c.reference)
        .where(
            sa.or_(charged != data.c.charged, sa.and_(data.c.pieces.is_(None), price != data.c.charged), other_account)
        )
        .order_by(data.c.id)
    )
    for row in rows:
        yield Difference("a data session is charged its octets", row.reference, int(row.price), int(row.transferred))
    strays = tx.execute(
        sa.select(sums.c.reference, sums.c.total)
        .outerjoin(data, data.c.reference == sums.c.reference)
        .where(data.c.id.is_(None))
        .order_by(sums.c.reference)
    )
    for stray in strays:
        yield Difference("a data session's charge has a session", stray.reference, None, int(stray.total))


def check_data_holds(tx: Connection) -> Iterator[Difference]:
    """Check law 5 of data: an open session has one open hold, its last; a closed one has none."""
    is_open = sa.and_(hold.c.state == HoldState.OPEN, hold.c.reference.like(f"{ORIGIN}:%"))
    of_session = sa.func.substr(hold.c.reference, 1, REFERENCE_CHARACTERS)
    last = data.c.reference.concat(":").concat(sa.cast(data.c.holds, sa.Text))
    rows = tx.execute(
        sa.select(data.c.reference, hold.c.state)
        .outerjoin(hold, sa.and_(hold.c.reference == last, hold.c.account_id == data.c.account_id))
        .where(data.c.state == "open", sa.or_(hold.c.state.is_(None), hold.c.state != HoldState.OPEN))
        .order_by(data.c.id)
    )
    for row in rows:
        yield Difference("an open data session has an open hold", row.reference, HoldState.OPEN, row.state)
    strays = tx.execute(
        sa.select(hold.c.reference)
        .outerjoin(data, sa.and_(data.c.reference == of_session, last == hold.c.reference, data.c.state == "open"))
        .where(is_open, data.c.id.is_(None))
        .order_by(hold.c.reference)
    )
    for stray in strays:
        yield Difference("a data session's open hold has an open session", stray.reference, None, HoldState.OPEN)
