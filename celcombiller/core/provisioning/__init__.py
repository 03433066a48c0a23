"""Provisioning: what each radio network should know of each subscriber, and the queue of updates."""
