"""One HTML page and one CSV from results tables."""
