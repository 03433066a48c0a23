"""Calls while the ledger is away: which may go, the journal of those that went, and their charge afterwards."""
