"""What the original program's API showed and took, on today's tables."""
