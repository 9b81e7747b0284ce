"""The modules that nnU-Net's trainer search imports: nothing but the shim."""
