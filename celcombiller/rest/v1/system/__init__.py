"""Routes of the system itself: its settings, and the proof of its ledger."""
