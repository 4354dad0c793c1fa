"""Ways to damage a file: any bytes, and what is meant by them."""
