"""Pre-training: curation, descriptions, text embeddings, autoencoder, losses and loop."""
