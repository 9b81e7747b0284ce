import pytest

from nnunet_triad.phantom import Subject, make_subject

SPACING_MM = 4.0


@pytest.fixture(scope="session")
def brain() -> Subject:
    """A varied brain with a tumour, 4 mm."""
    return make_subject(1, 1, spacing_mm=SPACING_MM)


@pytest.fixture(scope="session")
def template_brain() -> Subject:
    """The unchanged anatomy, 4 mm."""
    return make_subject(1, 0, spacing_mm=SPACING_MM, is_template=True)
