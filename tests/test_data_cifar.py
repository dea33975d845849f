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
    "a memo entry far away": (b"]r\xff\xff\xff\x0f", "no dictionary"),
    "a memo entry never stored": (b"j\xff\xff\xff\x0f", "memo entry 268435455"),
    "bytes that are not there": (b"B\xff\xff\xff\x7fabc", "2147483647 bytes"),
    "a bytearray that is not there": (b"\x96" + b"\xff" * 7 + b"\x0f", "bytearray"),
    "an attribute of a function": (b"cnumpy.core.multiarray\n_reconstruct\n}C\x08__call__]sb", "attributes"),
    "an attribute set as a slot": (b"cnumpy\ndtype\nN}\x8c\x08__code__K\x01s\x86b", "attributes"),
    "an attribute of a list": (b"]}C\x01ab", "attributes"),
    "an array's state with a hook": (RECONSTRUCT + b"}C\x08__init__]sb", "attributes"),
    "another class to reconstruct": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nmemoryview\n(K\0tC\x01btR",
        "asks for builtins.memoryview",
    ),
    "an array of arrays": (
        RECONSTRUCT + b"cnumpy\nndarray\n(K\x01K\x02K\x03K\x04K\x05tR",
        "a call that no array needs",
    ),
    "an array of too many dimensions": (
        RECONSTRUCT + state(b"K\x01" * 100, b"C\x02u1", b"C\x01a"),
        "data_batch_1",
    ),
    "sizes whose product overflows": (
        RECONSTRUCT + state(b"\x8a\x08" + b"\xff" * 7 + b"\x0f" + b"K\x10", b"C\x02u1", b"C\x01a"),
        "data_batch_1",
    ),
    "a size of 2040 bits": (RECONSTRUCT + state(b"\x8a\xff" + b"\x7f" * 255, b"C\x02u1", b"C\x01a"), "data_"),
    # Python's unpickler hashes each, and tuples within tuples until the C stack is used up.
    "a key that is 100,000 tuples deep": (b"})" + b"\x85" * 100_000 + b"K\x01s", "keys are not texts"),
    "a key of 2^100 tuples": (b"})" + b"q\0h\0\x86" * 100 + b"K\x01s", "keys are not texts"),
    "keys that all hash alike": (
        b"}("
        + b"".join(b"\x8a\x09" + (k * (2**61 - 1)).to_bytes(9, "little") + b"N" for k in range(99))
        + b"u",
        "keys are not texts",
    ),
    # To print or convert what is no shape and no name would take as long.
    "a shape of 2^100 tuples": (
        RECONSTRUCT + state(b")" + b"q\0h\0\x86" * 100, b"C\x02u1", b"C\x01a"),
        "shape is not whole numbers",
    ),
    "a type of 2^100 tuples": (
        RECONSTRUCT + state(b"K\x01", b")" + b"q\0h\0\x86" * 100, b"C\x01a"),
        "where a name belongs",
    ),
    "a list deeper than recursion goes": (b"]" * 20_000 + b"a" * 19_999, "no dictionary"),
    "a list in itself": (b"]q\0h\0a", "no dictionary"),
    "more instructions than a batch has": (b"]" * 300_000, "262144 pickle instructions"),
    # A text that is copied out of the memo time and again.
    "a text made bytes again and again": (
        b"X\x10\x27\0\0" + b"a" * 10_000 + b"q\0" + b"c_codecs\nencode\n(h\0h\0tR" * 50,
        "more bytes than it holds",
    ),
    "a type of a long name": (b"cnumpy\ndtype\n(T\x10\x27\0\0" + b"a" * 10_000 + b"tR", "where a name"),
    "a class made by NEWOBJ": (b"cnumpy\ndtype\n)\x81", "NEWOBJ"),
    "a persistent id": (b"K\x01Q", "BINPERSID"),
    "an extension": (b"\x82\x01", "EXT1"),
    "a dotted name": (b"\x8c\x05numpy\x8c\x0dndarray.dumps\x93", "asks for numpy.ndarray.dumps"),
    "a call of what is no function": (b"](tR", "a call that no array needs"),
    "a mark that was not set": (b"t", "a mark"),
    "nothing": (b"", "data_batch_1"),
    "an early end": (b"0", "POP"),
}


@pytest.fixture(scope="module")
def _first_error_imports_modules(tmp_path_factory):
    with pytest.raises(data.DataError):
        data.read_cifar_batch(write(tmp_path_factory.mktemp("first") / "f", b"."))


@pytest.mark.usefixtures("_first_error_imports_modules")
@pytest.mark.parametrize(("attack", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_a_crafted_pickle_is_one_error_and_no_memory(tmp_path, attack, reason):
    path = write(tmp_path / "data_batch_1", b"\x80\x05" + attack + b".")

    def read():
        with pytest.raises(data.DataError, match=reason):
            data.read_cifar_batch(path)

    assert peak_of(read) < 300_000 + 150 * len(
        attack
    )  # an instruction is a byte, what it makes at most a list
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
