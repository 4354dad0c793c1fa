"""Where what fails begins, and what is wrong there."""
