"""Kinds of measurement, one file each: what is worked on, by which ways, and what is checked."""
