"""Runs compared with recorded ones."""
