"""Coming from the original CELCOMBiller (2015-2017): its SQLite file read, converted and written into the ledger."""
