"""Routes for those who sell and hand on credit."""
