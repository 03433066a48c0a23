"""Vouchers: cards with a secret code, made in batches, activated, and redeemed once."""
