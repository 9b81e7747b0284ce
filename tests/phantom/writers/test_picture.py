from pathlib import Path

import matplotlib.image

from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.picture import draw_population


def test_picture_shows_a_row_for_each_anatomy(tmp_path: Path) -> None:
    sizes = []
    for anatomies in (("pelvis",), ("pelvis", "breast")):
        population = Population(num_subjects=1, spacing_mm=6.0, anatomies=anatomies)
        path = draw_population(tmp_path / f"{len(anatomies)}.png", population)
        image = matplotlib.image.imread(path)
        assert image[..., :3].std() > 0.1
        sizes.append(image.shape)
    assert sizes[1][0] == 2 * sizes[0][0]
    assert sizes[1][1] == sizes[0][1]
