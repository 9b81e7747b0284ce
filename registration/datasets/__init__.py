"""Readers that write a manifest from a dataset as it is published."""
