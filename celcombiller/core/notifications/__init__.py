"""Text messages of the operator: answers, notices, and broadcasts to groups."""
