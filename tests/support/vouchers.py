"""Batches of vouchers, made at once with codes that are not random."""

from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.model.accounts import Kind
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.voucher_batches import VoucherOrder
from celcombiller.core.vouchers.voucher_codes import ENTROPY_BYTES, make_codes
from tests.support.databases import NOW

OPERATOR = Actor("command", "root", manages=ALL_LEVELS)


def codes_of(seed, count):
    """Return as many codes, always the same for a seed."""
    return make_codes(b"".join((seed * 10**7 + number).to_bytes(ENTROPY_BYTES) for number in range(count)))


def begin(tx, name="cards", *, cards=3, reference=None, now=NOW, **terms):
    """Begin to make a batch."""
    terms = terms or {"kind": Kind.VOICE, "value": 50}
    terms = terms if "offer" in terms else {"kind": Kind.VOICE, "value": 50} | terms
    order = VoucherOrder(name=name, cards=cards, **terms)
    return voucher_batches.begin(tx, OPERATOR, order, reference=reference or f"id:{name}", now=now)


def batch(tx, name="cards", *, cards=3, seed=1, active=True, now=NOW, **terms):
    """Make a batch and return it with its codes; it is active unless said otherwise."""
    made = begin(tx, name, cards=cards, now=now, **terms)
    codes = codes_of(seed, cards)
    voucher_batches.add_cards(tx, made.id, 1, codes)
    voucher_batches.complete(tx, OPERATOR, made.id, now=now)
    if active:
        voucher_batches.activate(tx, OPERATOR, made.id, now=now)
    return made, codes
