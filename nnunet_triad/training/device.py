"""The device of a program that was told none."""


def default_device() -> str:
    """Return "cuda" where PyTorch sees a GPU, else "cpu"."""
    import torch  # slow, and --help needs it not

    return "cuda" if torch.cuda.is_available() else "cpu"
