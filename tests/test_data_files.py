"""IDX files as attackers and broken disks make them: one DataError each; and where sets are looked for."""

import gzip
import math
import os
import struct
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastnn import data
from tests.files import peak_of, write

TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
ON_DISK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx(array):
    head = struct.pack(f">4B{array.ndim}I", 0, 0, TYPES[array.dtype.str[1:]], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


ARRAYS = st.sampled_from(sorted(TYPES)).flatmap(
    lambda code: hnp.arrays(code, hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5))
)


@ON_DISK
@given(ARRAYS, st.booleans())
def test_idx_gives_back_what_was_written(tmp_path, array, packed):
    content = gzip.compress(idx(array)) if packed else idx(array)
    result = data.read_idx(write(tmp_path / "file", content))
    assert result.dtype == array.dtype
    assert result.dtype.isnative
    assert result.flags.writeable
    np.testing.assert_array_equal(result, array)


@ON_DISK
@given(ARRAYS, st.data(), st.booleans())
def test_idx_cut_short_or_with_more_behind_is_an_error(tmp_path, array, draw, packed):
    whole = idx(array)
    cut = draw.draw(st.integers(0, len(whole) - 1))
    for content in (whole[:cut], whole + b"\0"):
        path = write(tmp_path / "file", gzip.compress(content) if packed else content)
        with pytest.raises(data.DataError, match="file is not a whole IDX file"):
            data.read_idx(path)


@ON_DISK
@given(st.binary(max_size=60), st.booleans())
@example(b"\0\0\x08\x03\0\0\0\0" + b"\xff" * 8, False)  # no data, in an impossible shape
@example(b"\0\0\x08\xff" + b"\xff" * 4 * 255, False)
@example(b"\x1f\x8b\x08\0", False)
def test_arbitrary_bytes_are_an_array_or_one_error(tmp_path, content, packed):
    path = write(tmp_path / "file", gzip.compress(content) if packed else content)
    try:
        array = data.read_idx(path)
    except data.DataError:
        return
    assert idx(array) == content


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("sizes", [(60_000, 28, 28), (2**31,), (2**32 - 1,) * 32])
def test_a_header_that_promises_the_sky_allocates_nothing(tmp_path, sizes, packed):
    content = b"\0\0\x08" + bytes([len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + b"\0" * 100
    path = write(tmp_path / "file", gzip.compress(content) if packed else content)

    def read():
        with pytest.raises(data.DataError, match=str(math.prod(sizes))[:4]):
            data.read_idx(path)

    read()  # once without counting: the first error imports modules
    assert peak_of(read) < 200_000


def test_a_gzipped_header_within_reason_still_allocates_only_what_comes(tmp_path):
    noise = np.random.default_rng(0).bytes(200_000)  # compressed, these could have been the 100 MB promised
    path = write(tmp_path / "file.gz", gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 10**8) + noise))

    def read():
        with pytest.raises(data.DataError, match="promises 100000000 bytes of data, but it holds 200000"):
            data.read_idx(path)

    read()
    assert peak_of(read) < 5_000_000


def test_a_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path):
    content = gzip.compress(idx(np.zeros(1000, np.uint8)) + bytes(50_000_000))
    path = write(tmp_path / "bomb.gz", content)

    def read():
        with pytest.raises(data.DataError, match="goes on after the 1000 bytes"):
            data.read_idx(path)

    read()
    assert peak_of(read) < 1_000_000


def test_a_sparse_file_as_long_as_its_header_says_is_not_read(tmp_path):
    path = write(tmp_path / "file", b"\0\0\x08\x01" + struct.pack(">I", 2**32 - 1))
    with path.open("r+b") as file:
        file.truncate(8 + 2**32 - 1)

    def read():
        with pytest.raises(data.DataError, match="1073741824 are the most it may hold"):
            data.read_idx(path)

    read()
    assert peak_of(read) < 200_000


def test_numbers_of_many_bytes_take_their_room_once(tmp_path):
    array = np.arange(2**20, dtype=np.float64)
    path = write(tmp_path / "file", idx(array))
    assert peak_of(lambda: data.read_idx(path)) < 1.5 * array.nbytes


@pytest.mark.skipif(os.name != "posix", reason="devices are files on POSIX systems")
@pytest.mark.parametrize("read", [data.read_idx, data.read_cifar_batch])
def test_what_is_no_file_is_one_error(read, tmp_path):
    for path in (tmp_path, "/dev/zero", "/dev/null", tmp_path / "none", tmp_path / ("long" * 100)):
        with pytest.raises(data.DataError, match=str(path)):
            read(path)


def test_damaged_gzip_data_are_an_error(tmp_path):
    content = bytearray(gzip.compress(idx(np.arange(1000, dtype=np.int32))))
    for damaged in (content[:-4], content[:-8] + b"\0" * 8, content[:40] + b"\xff" * 9 + content[49:]):
        with pytest.raises(data.DataError, match="cannot be read as an IDX file"):
            data.read_idx(write(tmp_path / "file.gz", bytes(damaged)))


def mnist_files(root, images=None, labels=None):
    images = np.zeros((3, 28, 28), np.uint8) if images is None else images
    labels = np.array([0, 9, 1], np.uint8) if labels is None else labels
    raw = root / "MNIST" / "raw"
    for part in ("train", "t10k"):
        write(raw / f"{part}-images-idx3-ubyte.gz", gzip.compress(idx(images)))
        write(raw / f"{part}-labels-idx1-ubyte", idx(labels))
    return raw


def test_mnist_takes_packed_and_unpacked_files(tmp_path):
    mnist_files(tmp_path)
    mnist = data.load("mnist", tmp_path)
    assert mnist.x_test.shape == (3, 1, 28, 28)
    assert mnist.y_train.tolist() == [0, 9, 1]


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"images": np.zeros((3, 28, 27), np.uint8)}, "train-images"),
        ({"images": np.zeros((3, 28, 28), np.int32)}, "train-images"),
        ({"labels": np.zeros(4, np.uint8)}, "train-labels"),
        ({"labels": np.array([1, 2, 10], np.uint8)}, "train-labels"),
    ],
)
def test_idx_files_that_are_not_mnist_are_named(tmp_path, files, named):
    mnist_files(tmp_path, **files)
    with pytest.raises(data.DataError, match=rf"{named}.*\. Delete that file, and `fastnn data get mnist`"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar2"])
def test_a_missing_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path, name, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "here"))
    with pytest.raises(data.DataNotFound) as caught:
        data.load(name)
    assert isinstance(caught.value, data.DataError | FileNotFoundError)
    message = str(caught.value)
    assert str(tmp_path / "here") in message
    assert f"`fastnn data get {name}`" in message
    assert "\n" not in message


def test_an_unknown_set_lists_the_known():
    with pytest.raises(ValueError, match="'mnist', 'cifar10', 'cifar2', 'digits'"):
        data.load("imagenet")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"FASTNN_DATA": "/d", "XDG_CACHE_HOME": "/x"}, "/d"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/fastnn"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/fastnn"),
        ("linux", {"FASTNN_DATA": ""}, "/home/me/.cache/fastnn"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/fastnn"),
        ("win32", {"LOCALAPPDATA": "/home/me/local"}, "/home/me/local/fastnn"),
        ("win32", {}, "/home/me/AppData/Local/fastnn"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the paths of the table are POSIX ones")
def test_data_root_is_the_platforms_cache_folder(platform, variables, expected, monkeypatch):
    for name in ("FASTNN_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert data.data_root().as_posix() == expected
    assert data.data_root("~/sets").as_posix() == "/home/me/sets"
