"""Access control: principals, browser sessions, API tokens, login back-off, and the audit trail."""
