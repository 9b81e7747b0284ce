"""The shim that nnU-Net's trainer search imports; the trainers themselves live in the package."""

from nnunet_triad.trainers.variants import *  # noqa: F403

# answers for names with any combination of suffixes
from nnunet_triad.trainers.variants import __getattr__ as __getattr__
