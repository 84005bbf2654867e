"""Building, checking and verifying engines; never imported by the runtime."""
