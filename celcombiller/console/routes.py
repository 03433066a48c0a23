"""All pages, each with who may see it."""

from __future__ import annotations

from celcombiller.console import assets, documents, home, login, password, prices, second_factor
from celcombiller.console.credit.routes import CREDIT_ROUTES
from celcombiller.console.operators.routes import OPERATOR_ROUTES
from celcombiller.console.page import LOGIN, form, page, serving_form
from celcombiller.console.pricing.routes import PRICING_ROUTES
from celcombiller.console.sellers.routes import SELLER_ROUTES
from celcombiller.console.subscribers.routes import SUBSCRIBER_ROUTES
from celcombiller.console.system.routes import SYSTEM_ROUTES
from celcombiller.http.authorization import ANYBODY, OWN_READ, OWN_WRITE
from celcombiller.http.route import ResponseStyle, Route

CONSOLE_ROUTES = (
    Route(
        method="GET",
        path="/ui/assets/<name>",
        who=ANYBODY,
        serve=assets.send_asset,
        style=ResponseStyle.PAGE,
    ),
    page(LOGIN, ANYBODY, login.show),
    serving_form(LOGIN, ANYBODY, login.log_in, shown_by=login.show),
    page(f"{LOGIN}/code", ANYBODY, login.show_code),
    serving_form(f"{LOGIN}/code", ANYBODY, login.check_code, shown_by=login.show_code),
    page(f"{LOGIN}/phone", ANYBODY, login.show_phone),
    serving_form(f"{LOGIN}/phone", ANYBODY, login.send_phone_code, shown_by=login.show_phone),
    page(f"{LOGIN}/phone/code", ANYBODY, login.show_phone_code),
    serving_form(f"{LOGIN}/phone/code", ANYBODY, login.check_phone_code, shown_by=login.show_phone_code),
    page("/ui/password", OWN_READ, password.show),
    serving_form("/ui/password", OWN_READ, password.check, shown_by=password.show),
    serving_form("/ui/logout", ANYBODY, login.log_out, shown_by=login.show),
    page("/ui/", OWN_READ, home.show),
    page("/ui/help", ANYBODY, documents.show_first),
    page("/ui/help/<path:document>", ANYBODY, documents.show),
    Route(
        method="GET",
        path="/ui/help/images/<name>",
        who=ANYBODY,
        serve=documents.send_picture,
        style=ResponseStyle.PAGE,
    ),
    page("/ui/prices", OWN_READ, prices.show),
    page("/ui/second-factor", OWN_READ, second_factor.show),
    page("/ui/second-factor/new", OWN_READ, second_factor.show_secret),
    form("/ui/second-factor/new", OWN_WRITE, second_factor.set_up, shown_by=second_factor.show_secret),
    *CREDIT_ROUTES,
    *OPERATOR_ROUTES,
    *PRICING_ROUTES,
    *SELLER_ROUTES,
    *SUBSCRIBER_ROUTES,
    *SYSTEM_ROUTES,
    page("/ui/<path:unknown>", ANYBODY, home.refuse_address),
)
