"""Tariffs in the ledger: their versions and rates, on an open transaction."""
