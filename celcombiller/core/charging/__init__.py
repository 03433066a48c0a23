"""The credit-control engine (RFC 8506): requests, and the batch that answers them in one transaction."""
