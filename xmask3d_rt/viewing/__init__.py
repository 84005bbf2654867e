"""Which way is up, cameras for clouds without any, pictures."""
