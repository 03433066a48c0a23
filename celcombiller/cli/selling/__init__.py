"""Commands for selling and handing on credit."""
