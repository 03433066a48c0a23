"""FastAGI: the wire, sessions of our own library or of starpy, and Asterisk's side of one for simulated calls."""
