"""Pages of subscribers: their own balance, calls and plans."""
