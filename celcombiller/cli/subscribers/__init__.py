"""Commands for subscribers: their records, their tokens, and what the radio networks know of them."""
