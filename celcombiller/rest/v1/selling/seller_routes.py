"""The routes of sellers, receipts, settlements and PINs, for the table of `/api/v1`."""

from __future__ import annotations

from celcombiller.core.errors import (
    AlreadyTaken,
    DayLimitReached,
    Forbidden,
    InsufficientBalance,
    NotFound,
    PasswordNeeded,
    SaleTooLarge,
    SellerDisabled,
    SubscriberDisabled,
    TooManyAttempts,
    TransferConflict,
    UndoTooLate,
    UnknownSeller,
    UnknownSubscriber,
    WrongPin,
)
from celcombiller.http.authorization import ADMINISTRATORS, OWN_READ, OWN_WRITE, STAFF_READ, STAFF_WRITE
from celcombiller.http.pagination import Page
from celcombiller.http.route import Route
from celcombiller.http.transport.streaming import CSV_TYPE
from celcombiller.rest.v1.selling import pins, sellers, vouchers

V1 = "/api/v1"


SELLER = f"{V1}/sellers/<username>"


RECEIPT = f"{V1}/receipts/<receipt>"


PIN = f"{V1}/subscribers/<username>/pin"


_UNKNOWN = (UnknownSubscriber, UnknownSeller)


_OF_SALE = (*_UNKNOWN, SellerDisabled, SubscriberDisabled, SaleTooLarge, DayLimitReached)


_OF_MOVE = (InsufficientBalance, TransferConflict)


SELLER_ROUTES = (
    Route(
        method="GET",
        path=f"{V1}/sellers",
        who=STAFF_READ,
        do=sellers.list_all,
        query=sellers.SellerQuery,
        answer=Page[sellers.SellerView],
        refusals=(UnknownSubscriber,),
    ),
    Route(
        method="POST",
        path=f"{V1}/sellers",
        who=ADMINISTRATORS,
        do=sellers.add,
        body=sellers.NewSeller,
        example={"username": "ana", "seller_class": "shop", "commission": "discount", "commission_rate": 500},
        answer=sellers.SellerView,
        status=201,
        refusals=(*_UNKNOWN, AlreadyTaken),
    ),
    Route(method="GET", path=SELLER, who=OWN_READ, do=sellers.show, answer=sellers.SellerView, refusals=_UNKNOWN),
    Route(
        method="PATCH",
        path=SELLER,
        who=ADMINISTRATORS,
        do=sellers.change,
        body=sellers.SellerChange,
        example={"enabled": False},
        answer=sellers.SellerView,
        refusals=_UNKNOWN,
    ),
    Route(
        method="POST",
        path=f"{SELLER}/sales",
        who=OWN_WRITE,
        do=sellers.sell,
        body=sellers.NewSale,
        example={"to": "5591980000002", "amount": 60},
        needs_idempotency_key=True,
        answer=sellers.SoldView,
        status=201,
        refusals=(PasswordNeeded, *_OF_SALE, *_OF_MOVE),
    ),
    Route(
        method="POST",
        path=f"{SELLER}/sales/plan",
        who=OWN_READ,
        do=sellers.plan_sale,
        body=sellers.NewSale,
        only_asks=True,
        example={"to": "5591980000002", "amount": 60},
        answer=sellers.SalePlanView,
        refusals=(*_OF_SALE, *_OF_MOVE),
    ),
    Route(
        method="POST",
        path=f"{SELLER}/refills",
        who=STAFF_WRITE,
        do=sellers.refill,
        body=sellers.NewRefill,
        example={"amount": 10000, "paid": 9500, "note": "in cash"},
        needs_idempotency_key=True,
        answer=sellers.SoldView,
        status=201,
        refusals=(PasswordNeeded, *_UNKNOWN, *_OF_MOVE),
    ),
    Route(
        method="POST",
        path=f"{SELLER}/refills/plan",
        who=STAFF_READ,
        do=sellers.plan_refill,
        body=sellers.NewRefill,
        only_asks=True,
        example={"amount": 10000},
        answer=sellers.RefillPlanView,
        refusals=(*_UNKNOWN, *_OF_MOVE),
    ),
    Route(
        method="GET",
        path=f"{V1}/denominations",
        who=OWN_READ,
        do=sellers.list_denominations,
        answer=sellers.DenominationList,
    ),
    Route(
        method="POST",
        path=f"{V1}/me/refills",
        who=OWN_WRITE,
        do=sellers.refill_below,
        body=sellers.ParentRefill,
        example={"username": "bia", "amount": 600},
        needs_idempotency_key=True,
        answer=sellers.SoldView,
        status=201,
        refusals=(PasswordNeeded, NotFound, *_UNKNOWN, SellerDisabled, *_OF_MOVE),
    ),
    Route(
        method="GET",
        path=f"{SELLER}/vouchers",
        who=OWN_READ,
        do=vouchers.list_handed,
        query=vouchers.VoucherBatchQuery,
        answer=Page[vouchers.HandedVouchersView],
        refusals=_UNKNOWN,
    ),
    Route(
        method="GET",
        path=f"{V1}/receipts",
        who=OWN_READ,
        do=sellers.list_receipts,
        query=sellers.ReceiptQuery,
        answer=Page[sellers.ReceiptView],
        refusals=(NotFound, UnknownSubscriber),
    ),
    Route(
        method="GET",
        path=RECEIPT,
        who=OWN_READ,
        do=sellers.show_receipt,
        answer=sellers.ReceiptWhole,
        refusals=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{RECEIPT}/undo",
        who=OWN_WRITE,
        do=sellers.undo,
        answer=sellers.ReceiptView,
        refusals=(NotFound, SellerDisabled, UndoTooLate, InsufficientBalance),
    ),
    Route(
        method="GET",
        path=f"{V1}/settlements",
        who=OWN_READ,
        do=sellers.settlement,
        query=sellers.SettlementQuery,
        answer=sellers.SettlementList,
        refusals=(NotFound, *_UNKNOWN),
    ),
    Route(
        method="GET",
        path=f"{V1}/settlements.csv",
        who=OWN_READ,
        serve=sellers.download_settlement,
        query=sellers.SettlementQuery,
        answer=str,
        answer_type=CSV_TYPE,
        refusals=(PasswordNeeded, NotFound, *_UNKNOWN),
    ),
    Route(
        method="PUT",
        path=PIN,
        who=OWN_WRITE,
        serve=pins.change,
        body=pins.PinChange,
        example={"pin": "4071", "old_pin": "9318"},
        status=204,
        refusals=(UnknownSubscriber, WrongPin, Forbidden, TooManyAttempts),
    ),
    Route(method="DELETE", path=PIN, who=STAFF_WRITE, do=pins.remove, status=204, refusals=(UnknownSubscriber,)),
)
