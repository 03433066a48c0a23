"""Payments that providers report: money of a subscriber's outside, and the credit that it became."""
