"""Credit that sellers sell: sellers, sales, receipts and settlements."""
