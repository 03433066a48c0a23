"""Connections, transactions, the thread that writes in batches, and the threads that read."""
