"""Calls: their records, the evidence of their end, and the lists of them."""
