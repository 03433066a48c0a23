"""What the process needs and no database: metrics, logging, timers, TLS trust, worker processes."""
