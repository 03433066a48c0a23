"""Double entry: accounts, transfers and holds."""
