"""Validity of credit: it ends some days after the last top-up, where the operator chose so."""
