"""The values that all other packages use, one module a subject. They are frozen and know no database."""
