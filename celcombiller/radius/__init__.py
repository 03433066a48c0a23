"""Data by RADIUS (RFC 2865, 2866, 3579, 5176): who may use a NAS, what they used, and when their session must end."""
