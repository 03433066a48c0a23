"""CELCOMBiller: prepaid billing for Asterisk and OpenBTS networks."""

__version__ = "1.0.0.dev0"
