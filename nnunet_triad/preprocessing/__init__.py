"""Orientation, spacing, size and intensity: pure functions on arrays and affines."""
