"""One file format for encoder weights, and their transfer into networks, with a report."""
