"""Digital phantoms: the embedded data, made from the ICBM152 volumes that nilearn ships."""

from nnunet_triad.phantom.acquisition import Acquisition, acquire, icbm_t1
from nnunet_triad.phantom.lesions import LESIONS
from nnunet_triad.phantom.sequences import SCANNERS, SEQUENCES, Scanner, Sequence
from nnunet_triad.phantom.subject import Subject, make_subject
from nnunet_triad.phantom.template import ANATOMIES

__all__ = [
    "ANATOMIES",
    "LESIONS",
    "SCANNERS",
    "SEQUENCES",
    "Acquisition",
    "Scanner",
    "Sequence",
    "Subject",
    "acquire",
    "icbm_t1",
    "make_subject",
]
