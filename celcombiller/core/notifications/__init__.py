"""Balance enquiries by text message, and notices of a low balance."""
