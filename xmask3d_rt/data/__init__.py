"""Data that needs no download: generated rooms, and readers of data sets."""
