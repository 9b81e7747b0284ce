"""One file format for encoder weights, and their transfer into networks, with a report.

Nothing is imported here, so that `triad-weights --help` need not wait for PyTorch.
"""
