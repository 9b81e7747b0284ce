"""Encoders behind one contract, and segmentation networks built on them."""
