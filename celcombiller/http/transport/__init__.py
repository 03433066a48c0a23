"""Connections, requests and streams: what Twisted brings, with the limits that we set."""
