"""Benchmarks, runs and reports from the command line: ``python -m experiments``."""
