"""From pixels and points to labels."""
