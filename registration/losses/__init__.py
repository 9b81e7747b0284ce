"""The losses of registration, one a file."""
