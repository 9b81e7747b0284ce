"""Image registration with pre-trained encoders."""
