"""``/api/v1/settings``: the settings in force, without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.config.settings_in_force import SettingSource, SettingValue, list_settings
from celcombiller.core.reports.views import make_view
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest


class SettingView(msgspec.Struct, kw_only=True):
    """One setting in force."""

    table: Annotated[str, Meta(description="the table that it stands in, such as `rest`")]
    position: (
        Annotated[int, Meta(description="the number of its table among those of this name; null: there is one")] | None
    )
    key: Annotated[str, Meta(description="its name in the table")]
    value: Annotated[
        SettingValue, Meta(description="what is in force; a number of what the key says, such as seconds; null: hidden")
    ]
    is_hidden: Annotated[bool, Meta(description="whether it is a secret, which is never shown")]
    source: Annotated[SettingSource, Meta(description="where it was read at the start of this biller")]


class SettingList(msgspec.Struct, kw_only=True):
    """All settings in force."""

    file: Annotated[str, Meta(description="the settings file")] | None
    items: list[SettingView]


async def list_all(api: Api, _http_request: HttpRequest, _request: Request) -> Response:
    """List the settings in force, and where each comes from. Secrets are hidden."""
    file = api.origins.file
    items = [make_view(SettingView, each) for each in list_settings(api.config, api.origins)]
    return Response(SettingList(file=None if file is None else str(file.resolve()), items=items))
