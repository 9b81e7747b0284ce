"""Triad for nnU-Net: encoders, weights, trainers and data that every task shares."""

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: a tenth of the start of a command that asks not."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triad-nnunet")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
