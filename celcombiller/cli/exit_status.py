"""The exit statuses of every command, by which a script tells a refusal from a difference."""

DONE = 0
DIFFERS = 1
"""Done, and what was looked at differs, waits or was left out: an audit, a network's list, a queue, a finding."""
USAGE = 2
"""The command line is wrong; argparse exits with this status by itself."""
REFUSED = 3
"""Nothing was done: refused, a setting is wrong, or something that it needs cannot be reached."""
