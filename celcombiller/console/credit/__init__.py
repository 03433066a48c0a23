"""Pages about credit: vouchers, payments, schedules with their members and fees, and groups of subscribers."""
