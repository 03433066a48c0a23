"""The SMPP 3.4 client (ESME) that reaches the operator's message centre (SMSC)."""
