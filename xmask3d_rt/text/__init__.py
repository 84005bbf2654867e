"""Class names: read, split into tokens, embedded."""
