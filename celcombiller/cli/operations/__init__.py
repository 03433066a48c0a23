"""Commands for who runs the biller: set-up, checks, backup, benchmark, import of an original."""
