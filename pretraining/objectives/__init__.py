"""What a pre-training minimises: ONE file an objective; `parts` holds what they are built from."""
