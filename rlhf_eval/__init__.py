"""Evaluation and synthetic preference data for RLHF: every number with its interval, every label with its lineage."""

__version__ = "0.1.0"
