"""Commands for credit and for what was charged: transfers, calls, messages, data, schedules."""
