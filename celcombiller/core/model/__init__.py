"""The values that all others speak of, one module a subject. They are frozen and know no database."""
