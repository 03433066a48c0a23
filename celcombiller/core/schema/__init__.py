"""Tables, bulk SQL, and migrations."""
