"""Timing scripts; their results are the CSV files under results/."""
