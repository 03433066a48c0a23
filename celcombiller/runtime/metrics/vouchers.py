"""Metrics of vouchers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter

from celcombiller.core import errors
from celcombiller.core.errors import BillerError
from celcombiller.core.model.accounts import BundleKind, Kind

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from celcombiller.core.model.vouchers import Redemption

REFUSALS = (
    *("UNKNOWN_VOUCHER", "VOUCHER_NOT_ACTIVE", "VOUCHER_REVOKED", "VOUCHER_EXPIRED", "VOUCHER_REDEEMED"),
    *(each.code for each in (errors.TooManyAttempts, errors.SubscriberDisabled)),
)


@dataclass(frozen=True, slots=True)
class VoucherMetrics:
    """The instruments of vouchers."""

    redeemed: Counter
    value: Counter
    refused: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        made = cls(
            redeemed=Counter(
                "celcombiller_vouchers_redeemed", "Vouchers that were redeemed.", ("kind",), registry=registry
            ),
            value=Counter(
                "celcombiller_voucher_value",
                "What redeemed vouchers gave: credits, seconds, messages or octets.",
                ("kind",),
                registry=registry,
            ),
            refused=Counter(
                "celcombiller_voucher_refusals", "Tries to redeem that were refused.", ("reason",), registry=registry
            ),
        )
        for kind in (*Kind, *BundleKind):
            made.redeemed.labels(kind.value)
            made.value.labels(kind.value)
        for code in REFUSALS:
            made.refused.labels(code)
        return made

    def count(self, outcome: Redemption | BillerError) -> None:
        """Count a try by its outcome; the same request again counts once."""
        if isinstance(outcome, BillerError):
            self.refused.labels(outcome.code).inc()
        elif outcome.is_new:
            self.redeemed.labels(outcome.batch.kind.value).inc()
            self.value.labels(outcome.batch.kind.value).inc(outcome.batch.value)
