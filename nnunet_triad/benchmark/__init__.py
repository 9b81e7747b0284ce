"""Plan, run and report the paper's whole comparison."""
