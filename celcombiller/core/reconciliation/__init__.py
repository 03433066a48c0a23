"""Call detail records of Asterisk against the calls of the ledger."""
