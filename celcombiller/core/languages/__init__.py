"""The languages of texts that the biller makes: what is to be translated, and how each language writes values."""
