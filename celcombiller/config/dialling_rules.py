"""How numbers are dialled in a country, from the tables of the library phonenumbers; read when the settings are."""

from __future__ import annotations

from functools import lru_cache

from celcombiller.core.rating.numbering import E164_DIGITS_MAX, NumberingPlan


@lru_cache
def find_plan(country: str, area_code: str = "") -> NumberingPlan | None:
    """Return the plan of a country (ISO 3166, two letters), or ``None`` where the library knows no such country."""
    from phonenumbers import PhoneMetadata, PhoneNumberDesc  # noqa: PLC0415  loading it takes a tenth of a second

    metadata = PhoneMetadata.metadata_for_region(country, None)
    if metadata is None:
        return None
    described = metadata.general_desc or PhoneNumberDesc()
    return NumberingPlan(
        country_code=str(metadata.country_code),
        international=metadata.international_prefix or "",
        trunk=metadata.national_prefix_for_parsing or "",
        trunk_replacement=metadata.national_prefix_transform_rule or "",
        national=described.national_number_pattern or "",
        area_code=area_code,
        local_digits_max=max(described.possible_length, default=E164_DIGITS_MAX) - len(area_code),
    )
