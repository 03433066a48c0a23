"""Bundles: pots of seconds, messages, octets or credits, which pay for a use before the balance, and their offers."""
