"""What each radio network should know of each subscriber, and the queue that brings it there."""
