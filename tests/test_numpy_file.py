import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.numpy_file import read_npy, read_npz


def test_arrays_are_read_as_they_were_written(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array, b=array[0])

    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", num_axes=3), array)
    (second,) = read_npz(tmp_path / "a.npz", ["b"])
    np.testing.assert_array_equal(second, array[0])


def test_objects_are_refused_and_not_unpickled(tmp_path):
    target = tmp_path / "run"

    class Exploit:
        def __reduce__(self):
            return target.touch, ()

    np.save(tmp_path / "a.npy", np.array([[[Exploit()]]]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", allow_pickle=True, a=np.array([Exploit()]))

    with pytest.raises(UserError, match="expected a NumPy array of 3 axes"):
        read_npy(tmp_path / "a.npy", num_axes=3)
    with pytest.raises(UserError, match="expected NumPy's archive with a"):
        read_npz(tmp_path / "a.npz", ["a"])
    assert not target.exists()


@pytest.mark.parametrize("size", [0, 5, 40, 130, 200])
def test_a_cut_file_is_refused(tmp_path, size):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    np.savez(tmp_path / "a.npz", a=np.zeros((2, 3, 4)))
    for name in ("a.npy", "a.npz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(UserError, match=r"a\.npy: expected a NumPy array of 3 axes"):
        read_npy(tmp_path / "a.npy", num_axes=3)
    with pytest.raises(UserError, match=r"a\.npz: expected NumPy's archive with a"):
        read_npz(tmp_path / "a.npz", ["a"])


def test_an_array_is_no_archive_and_an_archive_no_array(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    np.savez(tmp_path / "a.npz", a=np.zeros((2, 3, 4)))

    with pytest.raises(UserError, match="got an archive"):
        read_npy(tmp_path / "a.npz", num_axes=3)
    with pytest.raises(UserError, match="expected NumPy's archive"):
        read_npz(tmp_path / "a.npy", ["a"])
    with pytest.raises(UserError, match=r"got float64 \(2, 3, 4\)"):
        read_npy(tmp_path / "a.npy", num_axes=2)


def test_nobody_is_told_to_unpickle(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"image,label\n")

    with pytest.raises(UserError, match="no file of NumPy's") as refusal:
        read_npz(path, ["a"])
    assert "allow_pickle" not in str(refusal.value)
