"""Benchmark cases, one module per operator, each with a function `benchmark_cases`."""
