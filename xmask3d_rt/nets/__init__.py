"""Parts of the model that run outside engines."""
