"""One command from a folder of unlabelled and one of labelled images to a model and a verdict."""
