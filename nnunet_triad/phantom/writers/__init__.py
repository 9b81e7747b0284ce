"""Phantoms in the layouts that programs read; each can be interrupted and repeated."""
