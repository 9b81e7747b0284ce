"""Deformable registration: TransMorph and Swin UNETR on a pre-trained encoder, for NIfTI files."""
