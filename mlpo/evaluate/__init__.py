"""Evaluation: judges, matches, statistics."""
