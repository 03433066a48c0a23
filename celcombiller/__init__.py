"""CELCOMBiller: prepaid billing for Asterisk and OpenBTS networks."""
