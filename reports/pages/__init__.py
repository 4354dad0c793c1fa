"""The page of one model, part by part."""
