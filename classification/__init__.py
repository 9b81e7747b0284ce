"""Image classification with pre-trained encoders."""
