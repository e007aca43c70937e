"""One module per user command; each registers itself with the grammar."""
