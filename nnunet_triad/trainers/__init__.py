"""nnU-Net trainers around the encoders."""
