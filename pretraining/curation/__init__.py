"""Curation: a tree of images becomes a volume store."""
