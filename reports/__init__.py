"""Results as pages to look at, tables to quote and figures for other programs."""
