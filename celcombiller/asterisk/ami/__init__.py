"""AMI: the wire, the link to each Asterisk server, and what its events say of live calls."""
