import io
import pickle
import subprocess
from collections import Counter

import numpy as np
import pytest

from nnunet_triad.errors import UserError
from registration.datasets.acdc import prepare_acdc, read_info, split_of
from registration.datasets.array_pickle import read_array_pickle
from registration.datasets.ixi import prepare_ixi
from registration.datasets.oasis import prepare_oasis
from registration.evaluate_command import prepare_dataset
from registration.label_sets import LABEL_SETS, load_label_set
from registration.manifest import read_manifest, write_manifest
from registration.pairs import read_image, read_labels
from tests.layouts.registration import (
    SHAPE,
    write_acdc,
    write_ixi,
    write_learn2reg_oasis,
    write_neurite_oasis,
    write_oasis_pickles,
)


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickles_of_arrays_are_read(tmp_path, protocol, order):
    random = np.random.default_rng(0)
    image = np.asarray(random.random((3, 4, 5)), dtype=">f4", order=order)
    labels = random.integers(0, 9, (3, 4, 5)).astype(np.int16)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((image, labels), protocol=protocol))
    found = read_array_pickle(tmp_path / "a.pkl", num_arrays=2)
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[1], labels)


def test_pickles_with_numpys_old_module_name_are_read(tmp_path):
    array = np.arange(6, dtype=np.float32)
    new = pickle.dumps((array,), protocol=2)
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new or b"numpy.core.multiarray" in new
    (tmp_path / "a.pkl").write_bytes(old)
    np.testing.assert_array_equal(read_array_pickle(tmp_path / "a.pkl", num_arrays=1)[0], array)


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (subprocess.call, (["touch", str(self.path)],))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (np.zeros(3), x), lambda x: [x, x]])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path, wrap):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(wrap(_Runs(tmp_path / "trace"))))
    with pytest.raises(UserError, match=r"got a call of subprocess\.call, which is refused"):
        read_array_pickle(tmp_path / "a.pkl", num_arrays=2)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.testing\nrundocs\n.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0andarray.x\x93.",
        b"P0\n.",
    ],
)
def test_other_names_even_numpys_are_refused(tmp_path, text):
    (tmp_path / "a.pkl").write_bytes(text)
    with pytest.raises(UserError, match=r"refused|cannot be read"):
        read_array_pickle(tmp_path / "a.pkl", num_arrays=2)


def test_arrays_of_objects_and_forged_sizes_are_refused(tmp_path):
    objects = np.array([{}, []], dtype=object)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((objects,)))
    with pytest.raises(UserError, match="expected a pickle of numpy arrays alone"):
        read_array_pickle(tmp_path / "a.pkl", num_arrays=1)
    forged = pickle.dumps((np.zeros(5, np.float32),), protocol=2).replace(b"K\x05", b"K\x64")
    (tmp_path / "b.pkl").write_bytes(forged)
    with pytest.raises(UserError, match="an array of 20 bytes instead of 400"):
        read_array_pickle(tmp_path / "b.pkl", num_arrays=1)


def test_damaged_pickles_and_other_contents_are_refused(tmp_path):
    whole = pickle.dumps((np.zeros((5, 5)), np.zeros(5)))
    (tmp_path / "a.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"expected a whole pickle|expected a pickle"):
        read_array_pickle(tmp_path / "a.pkl", num_arrays=2)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"image": [1, 2]}))
    with pytest.raises(UserError, match="expected a tuple of 2 arrays, got dict"):
        read_array_pickle(tmp_path / "b.pkl", num_arrays=2)
    (tmp_path / "c.pkl").write_bytes(whole)
    with pytest.raises(UserError, match="expected a tuple of 4 arrays"):
        read_array_pickle(tmp_path / "c.pkl", num_arrays=4)
    with pytest.raises(UserError, match="expected a pickle of arrays, got no file"):
        read_array_pickle(tmp_path / "d.pkl", num_arrays=2)
    (tmp_path / "e.pkl").write_bytes(b"\x95" + b"\xff" * 8)  # a frame of 2^64 bytes
    with pytest.raises(UserError, match="expected a whole pickle"):
        read_array_pickle(tmp_path / "e.pkl", num_arrays=2)


def counts(pairs):
    return Counter(pair.split for pair in pairs)


def test_ixi_moves_the_atlas_to_each_subject(tmp_path):
    source = write_ixi(tmp_path)
    pairs = prepare_ixi(tmp_path, tmp_path / "out", quiet)
    assert counts(pairs) == {"train": 3, "val": 2, "test": 2}
    assert {pair.moving.name for pair in pairs} == {"atlas.nii.gz"}
    first = next(pair for pair in pairs if pair.fixed.name == "subject_4.nii.gz")
    with (source / "Train" / "subject_4.pkl").open("rb") as file:
        image, labels = pickle.loads(file.read())
    np.testing.assert_array_equal(read_image(first.fixed).voxels, image)
    np.testing.assert_array_equal(read_labels(first.fixed_labels).voxels, labels)
    write_manifest(tmp_path / "out" / "manifest.csv", pairs)
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 7


def test_prepared_files_are_not_written_again(tmp_path):
    write_ixi(tmp_path)
    pair = prepare_ixi(tmp_path, tmp_path / "out", quiet)[0]
    before = pair.fixed.stat().st_mtime_ns
    prepare_ixi(tmp_path, tmp_path / "out", quiet)
    assert pair.fixed.stat().st_mtime_ns == before


def test_oasis_pickles_are_paired_at_random_and_validated_in_pairs(tmp_path):
    pairs = prepare_oasis(write_oasis_pickles(tmp_path / "in"), tmp_path / "out", quiet)
    assert counts(pairs) == {"train": 4, "val": 2, "test": 2}
    assert all(pair.fixed is None for pair in pairs if pair.split == "train")
    val = next(pair for pair in pairs if pair.split == "val")
    with min((tmp_path / "in" / "Test").glob("*.pkl")).open("rb") as file:
        x, y, x_labels, y_labels = pickle.loads(file.read())
    np.testing.assert_array_equal(read_image(val.moving).voxels, x)
    np.testing.assert_array_equal(read_image(val.fixed).voxels, y)
    np.testing.assert_array_equal(read_labels(val.moving_labels).voxels, x_labels)
    np.testing.assert_array_equal(read_labels(val.fixed_labels).voxels, y_labels)


def test_neurite_oasis_takes_the_challenges_pairs(tmp_path):
    pairs = prepare_oasis(write_neurite_oasis(tmp_path, has_pairs=True), tmp_path, quiet)
    assert counts(pairs) == {"train": 3, "val": 2, "test": 2}
    val = next(pair for pair in pairs if pair.split == "val")
    assert val.name == "OASIS_OAS1_0439_MR1_to_OASIS_OAS1_0438_MR1"


def test_learn2reg_oasis_takes_the_pairs_of_its_json(tmp_path):
    pairs = prepare_oasis(write_learn2reg_oasis(tmp_path), tmp_path, quiet)
    assert counts(pairs) == {"train": 2, "val": 2, "test": 2}
    names = {(p.moving.name, p.fixed.name) for p in pairs if p.split == "val"}
    assert ("OASIS_0396_0000.nii.gz", "OASIS_0395_0000.nii.gz") in names


def test_acdc_moves_end_diastole_to_end_systole_within_a_patient(tmp_path):
    pairs = prepare_acdc(write_acdc(tmp_path), tmp_path, quiet)
    assert counts(pairs) == {"train": 1, "val": 2, "test": 1}
    for pair in pairs:
        frames = read_info(pair.moving.parent / "Info.cfg")
        assert f"frame{frames['ED']:02d}" in pair.moving.name
        assert f"frame{frames['ES']:02d}_gt" in pair.fixed_labels.name
        assert pair.moving.parent == pair.fixed.parent
        assert read_labels(pair.fixed_labels).voxels.shape == SHAPE


def test_acdc_splits_are_80_20_50_with_each_diagnosis_in_validation():
    splits = Counter(split_of(number) for number in range(1, 151))
    assert splits == {"train": 80, "val": 20, "test": 50}
    groups = Counter((number - 1) // 20 for number in range(1, 101) if split_of(number) == "val")
    assert set(groups.values()) == {4}


def test_wrong_layouts_are_refused(tmp_path):
    for read, message in (
        (prepare_ixi, "expected TransMorph's IXI_data with atlas.pkl"),
        (prepare_oasis, r"expected All/.*TransMorph"),
        (prepare_acdc, "expected ACDC's patientNNN folders"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, tmp_path / "out", quiet)
    (tmp_path / "patients").mkdir()
    (tmp_path / "patients" / "Info.cfg").touch()  # a folder that is no patient's
    database = write_acdc(tmp_path, numbers=(1,))
    assert len(prepare_acdc(tmp_path, tmp_path, quiet)) == 1
    info = database / "training" / "patient001" / "Info.cfg"
    info.write_text(info.read_text().replace("ES: ", "ES: x"))
    with pytest.raises(UserError, match=r"Info\.cfg: expected a frame number as ES, got 'x"):
        prepare_acdc(database, tmp_path, quiet)


@pytest.mark.parametrize(("name", "file"), [("oasis", "All/a.txt"), ("ixi", "atlas.pkl")])
def test_folder_without_images_gives_no_manifest(tmp_path, name, file):
    array = np.zeros((4, 4, 4), np.float32)
    (tmp_path / "in" / file).parent.mkdir(parents=True)
    (tmp_path / "in" / file).write_bytes(pickle.dumps((array, array.astype(np.int16))))
    with pytest.raises(UserError, match=f"expected images of {name} as published, got none"):
        prepare_dataset(name, tmp_path / "out", tmp_path / "in")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_label_sets_are_those_of_the_publications():
    ixi, oasis, acdc = (LABEL_SETS[name] for name in ("ixi", "oasis", "acdc"))
    values = {value for members in ixi.structures.values() for value in members}
    assert values == {
        2, 3, 4, 7, 8, *range(10, 19), 24, 28, 31, 41, 42, 43, 46, 47, *range(49, 55), 60, 63,
    }  # fmt: skip
    assert len(ixi.structures) == 30
    assert len(ixi.groups) == 17
    assert sorted(m for group in ixi.groups.values() for m in group) == sorted(ixi.structures)
    assert Counter(len(group) for group in ixi.groups.values()) == {2: 13, 1: 4}
    assert list(oasis.structures.values()) == [(n,) for n in range(1, 36)]
    assert oasis.structures["Left-Choroid-Plexus"] == (19,)
    assert oasis.structures["Right-Cerebral-White-Matter"] == (20,)
    assert acdc.structures == {"right ventricle": (1,), "myocardium": (2,), "left ventricle": (3,)}


def test_own_label_set_comes_from_json(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(
        '{"structures": {"left": [1], "right": [2]}, "groups": {"both": ["left", "right"]}}'
    )
    found = load_label_set(str(path))
    assert found.structures["right"] == (2,)
    assert found.groups == {"both": ("left", "right")}
    path.write_text('{"structures": {"left": [1]}, "groups": {"both": ["left", "right"]}}')
    with pytest.raises(UserError, match="expected groups of its structures, got right"):
        load_label_set(str(path))
    for text in ("{}", '{"structures": {"left": [1e999]}}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"labels\.json: expected"):
            load_label_set(str(path))
    with pytest.raises(UserError, match="label set: expected one of ixi, oasis, acdc"):
        load_label_set("nope")


def test_buffers_outside_the_file_are_refused(tmp_path):
    stream = io.BytesIO()
    pickle.Pickler(stream, protocol=5, buffer_callback=lambda b: False).dump((np.zeros(4),))
    (tmp_path / "a.pkl").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match=r"refused|cannot be read"):
        read_array_pickle(tmp_path / "a.pkl", num_arrays=1)
