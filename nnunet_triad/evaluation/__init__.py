"""Metrics and figures on one tidy results table."""
