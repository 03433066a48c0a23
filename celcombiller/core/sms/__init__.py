"""Text messages: encoding, charging, and the queue of what is to be sent."""
