"""The checks of the audit: each gives the differences that it finds in one part of the ledger."""
