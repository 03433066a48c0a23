"""Readers of Asterisk's call detail records: files of CSV, SQLite files, and tables of other databases."""
