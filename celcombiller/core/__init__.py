"""Charging and its records: pure values and units of work on an open transaction. No Twisted, no clock, no I/O."""
