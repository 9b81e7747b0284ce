"""`triad-features`: what a frozen encoder gives of images, as a table, and what it is good for."""
