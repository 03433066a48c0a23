"""Data by RADIUS (RFC 2865, 2866, 3579, 5176): who may use a NAS, what he used, and that he is to end."""
