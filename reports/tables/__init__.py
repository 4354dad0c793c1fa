"""All models in one table, for pages and for other programs."""
