"""How the datasets lie on the disk as published: data where possible, code where not."""

from nnunet_triad.datasets.layouts.breastdm import BreastDmLayout
from nnunet_triad.datasets.layouts.msd import MsdLayout
from nnunet_triad.datasets.layouts.pattern import PatternLayout
from nnunet_triad.datasets.layouts.prostate158 import Prostate158Layout

__all__ = ["BreastDmLayout", "MsdLayout", "PatternLayout", "Prostate158Layout"]
