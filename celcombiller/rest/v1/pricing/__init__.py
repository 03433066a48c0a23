"""``/api/v1``: what things cost and what is sold: tariffs, bundles, offers, trunks, and the price of a call."""
