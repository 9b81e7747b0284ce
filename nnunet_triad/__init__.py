"""Triad for nnU-Net: encoders, weights, trainers and data that every task shares."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("triad-nnunet")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
