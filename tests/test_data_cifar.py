"""CIFAR-10 files as attackers and broken disks make them: one DataError each, and nothing in them runs."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastnn import data
from tests.files import peak_of, write

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
BATCH = {b"data": IMAGES, b"labels": [0, 8, 9, 8], b"filenames": [b"a"] * 4}


def write_batches(root, binary=False):
    for stem in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        if binary:
            records = np.column_stack([np.array(BATCH[b"labels"], np.uint8), IMAGES])
            write(root / "cifar-10-batches-bin" / f"{stem}.bin", records.tobytes())
        else:
            write(root / "cifar-10-batches-py" / stem, pickle.dumps(BATCH, 2))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_a_batch_pickled_by_any_numpy_is_read(tmp_path, protocol, order, core):
    batch = {"data": np.array(IMAGES, order=order), "labels": np.array([0, 8, 9, 8], ">i4")}
    content = pickle.dumps(batch, protocol)
    if protocol < 4:  # where the name's length is not written
        content = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core)
    images, labels = data.read_cifar_batch(write(tmp_path / "data_batch_1", content))
    np.testing.assert_array_equal(images.reshape(4, 3072), IMAGES)
    assert labels.tolist() == [0, 8, 9, 8]


def test_both_versions_of_cifar_are_the_same_set(tmp_path):
    images = IMAGES.reshape(4, 3, 32, 32)
    for binary in (False, True):
        root = tmp_path / str(binary)
        write_batches(root, binary)
        ten, two = data.load("cifar10", root), data.load("cifar2", root)
        np.testing.assert_array_equal(ten.x_train, np.tile(images, (5, 1, 1, 1)))
        assert ten.y_test.tolist() == [0, 8, 9, 8]
        np.testing.assert_array_equal(two.x_test, images[[0, 1, 3]])
        assert two.y_test.tolist() == [0, 1, 1]


class Touch:
    """Runs `os.system` when unpickled by an ordinary unpickler."""

    def __init__(self, path):
        self.command = f"echo > '{path}'"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol):
    target = tmp_path / "touched"
    content = pickle.dumps({**BATCH, b"filenames": Touch(target)}, protocol)
    with pytest.raises(data.DataError, match=r"data_batch_1 is .*: it (asks for|uses)"):
        data.read_cifar_batch(write(tmp_path / "data_batch_1", content))
    assert not target.exists()
    if protocol == 4 and os.name == "posix":  # the weapon is loaded: an ordinary unpickler does run it
        pickle.loads(content)
        assert target.exists()


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\x01btR"


def state(shape, dtype, raw):
    """Instructions that fill the array just made."""
    return b"(K\x01(" + shape + b"tcnumpy\ndtype\n(" + dtype + b"tR\x89" + raw + b"tb"


# What the file holds between its first two bytes and its last, and what the error then says.
ATTACKS = {
    # NumPy's own array would read objects past the end of this list.
    "an array of objects": (RECONSTRUCT + state(b"K\x0a", b"C\x01O", b"]K\x01a"), "not plain bytes"),
    "pointers for an array of objects": (
        RECONSTRUCT + state(b"K\x01", b"C\x01O", b"C\x08abcdefgh"),
        r"type '\|O'",
    ),
    "an array longer than its bytes": (
        RECONSTRUCT + state(b"M\0\x20", b"C\x02u1", b"C\x01a"),
        "cannot reshape",
    ),
    "an array of negative size": (RECONSTRUCT + state(b"J\xff\xff\xff\xff", b"C\x02u1", b"C\x01a"), "shape"),
    "a memo entry far away": (b"]r\xff\xff\xff\x0f", "memo entry 268435455"),
    "bytes that are not there": (b"B\xff\xff\xff\x7fabc", "2147483647 bytes"),
    "a bytearray that is not there": (b"\x96" + b"\xff" * 7 + b"\x0f", "bytearray"),
    "an attribute of a function": (b"cnumpy.core.multiarray\n_reconstruct\n}C\x08__call__]sb", "dictionary"),
    "an attribute set as a slot": (b"cnumpy\ndtype\nN}\x8c\x08__code__K\x01s\x86b", "has no attribute"),
    "a class made by NEWOBJ": (b"cnumpy\ndtype\n)\x81", "NEWOBJ"),
    "a persistent id": (b"K\x01Q", "BINPERSID"),
    "an extension": (b"\x82\x01", "EXT1"),
    "a dotted name": (b"\x8c\x05numpy\x8c\x0dndarray.dumps\x93", "asks for numpy.ndarray.dumps"),
    "a call of what is no function": (b"](tR", "not callable"),
    "nothing": (b"", "data_batch_1"),
    "an early end": (b"0", "POP"),
}


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_crafted_pickle_is_one_error_and_no_memory(tmp_path, attack, reason):
    path = write(tmp_path / "data_batch_1", b"\x80\x05" + attack + b".")

    def read():
        with pytest.raises(data.DataError, match=reason):
            data.read_cifar_batch(path)

    read()
    assert peak_of(read) < 300_000
    good = write(tmp_path / "good", pickle.dumps(BATCH, 4))  # and nothing of it is left behind
    assert data.read_cifar_batch(good)[1].tolist() == [0, 8, 9, 8]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**9), st.binary(min_size=1, max_size=3), st.booleans())
def test_a_damaged_batch_is_read_or_one_error(tmp_path, place, noise, cut):
    content = bytearray(pickle.dumps({b"data": IMAGES[:1], b"labels": [3]}, 4))
    place %= 250 if place % 2 else len(content)  # half of them where the instructions are, not the pixels
    content[place : place + len(noise)] = b"" if cut else noise
    content = content[:place] if cut else content
    try:
        images, labels = data.read_cifar_batch(write(tmp_path / "data_batch_1", bytes(content)))
    except data.DataError:
        return
    assert images.shape == (len(labels), 3, 32, 32)


@pytest.mark.parametrize(
    "batch",
    [
        {b"data": IMAGES, b"labels": [0, 1, 2]},
        {b"data": IMAGES, b"labels": [0, 1, 2, 10]},
        {b"data": IMAGES, b"labels": [0, 1, 2, -1]},
        {b"data": IMAGES, b"labels": [0, 1, 2, "3"]},
        {b"data": IMAGES[:, :3071], b"labels": [0, 1, 2, 3]},
        {b"data": IMAGES.astype(np.int16), b"labels": [0, 1, 2, 3]},
        {b"data": IMAGES.tolist(), b"labels": [0, 1, 2, 3]},
        {b"labels": [0, 1, 2, 3]},
        [IMAGES],
    ],
)
def test_a_pickle_that_is_no_batch_is_an_error(tmp_path, batch):
    with pytest.raises(data.DataError, match="data_batch_1 is not a whole CIFAR-10 batch"):
        data.read_cifar_batch(write(tmp_path / "data_batch_1", pickle.dumps(batch, 4)))


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(2 * 3073 - 1), b"\x0a" + bytes(3072)])
def test_a_binary_batch_that_is_none_is_an_error(tmp_path, content):
    with pytest.raises(data.DataError, match=r"test_batch\.bin is not a whole CIFAR-10 batch"):
        data.read_cifar_batch(write(tmp_path / "test_batch.bin", content))


def test_a_file_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "data_batch_1"
    with path.open("wb") as file:
        file.truncate(2**33)  # sparse
    with pytest.raises(data.DataError, match="8589934592 bytes"):
        data.read_cifar_batch(path)


def test_an_incomplete_set_names_the_missing_file(tmp_path):
    write_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(data.DataNotFound, match="data_batch_4"):
        data.load("cifar10", tmp_path)
