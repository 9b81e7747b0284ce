"""What only makes a CPU faster; results agree with the libraries' own modules."""
