"""Words and figures as all pages use them."""
