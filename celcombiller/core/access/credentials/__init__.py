"""What subscribers prove themselves by from phones."""
