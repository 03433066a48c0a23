"""Import of the original CELCOMBiller (2015-2017): its SQLite file is read, converted and written into the ledger."""
