"""Talk with Asterisk: the AGI and AMI wire, the call scripts, and the watch over live calls."""
