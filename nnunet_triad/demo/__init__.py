"""The whole way on two CPU cores: phantom, curation, pre-training, nnU-Net, comparison."""
