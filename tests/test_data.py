"""The sets as they really are (counts, label histograms, checksums of the pixels), and the transforms."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastnn
from fastnn import data


def real(name, root):
    try:
        return data.load(name, root)
    except data.DataNotFound as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def mnist(data_root):
    return real("mnist", data_root)


@pytest.fixture(scope="module")
def cifar10(data_root):
    return real("cifar10", data_root)


def md5(array):
    return hashlib.md5(np.ascontiguousarray(array)).hexdigest()


def check_kinds(dataset, shape, classes):
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        assert x.shape[1:] == shape
        assert y.shape == (len(x),)
        assert x.flags.writeable
        assert x.flags.c_contiguous
        assert 0 <= y.min() <= y.max() == classes - 1
    assert dataset.classes == len(dataset.class_names) == classes
    assert dataset.x_train.max() == 255
    assert str(len(dataset.x_train)) in repr(dataset)


def test_mnist_is_the_published_set(mnist):
    check_kinds(mnist, (1, 28, 28), 10)
    assert np.bincount(mnist.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    # The figures everybody normalises MNIST with.
    assert mnist.x_train.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert mnist.x_train.std() / 255 == pytest.approx(0.3081, abs=1e-4)


def test_cifar10_is_the_published_set_in_batch_order(cifar10, data_root):
    check_kinds(cifar10, (3, 32, 32), 10)
    assert np.bincount(cifar10.y_train).tolist() == [5000] * 10
    assert np.bincount(cifar10.y_test).tolist() == [1000] * 10
    assert cifar10.y_train[:5].tolist() == [6, 9, 9, 4, 1]
    assert cifar10.class_names[cifar10.y_test[0]] == "cat"
    third, labels = data.read_cifar_batch(data_root / "cifar-10-batches-py" / "data_batch_3")
    np.testing.assert_array_equal(cifar10.x_train[20_000:30_000], third)
    np.testing.assert_array_equal(cifar10.y_train[20_000:30_000], labels)
    means = cifar10.x_train.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=1e-4)


def test_cifar2_is_the_airplanes_and_ships(cifar10, data_root):
    cifar2 = real("cifar2", data_root)
    check_kinds(cifar2, (3, 32, 32), 2)
    assert cifar2.class_names == ("airplane", "ship")
    assert np.bincount(cifar2.y_train).tolist() == [5000, 5000]
    assert np.bincount(cifar2.y_test).tolist() == [1000, 1000]
    wanted = np.isin(cifar10.y_test, (0, 8))
    np.testing.assert_array_equal(cifar2.x_test, cifar10.x_test[wanted])
    np.testing.assert_array_equal(cifar2.y_test, cifar10.y_test[wanted] // 8)


def test_digits_are_the_same_everywhere_and_lose_nothing():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = data.load("digits")
    check_kinds(digits, (1, 8, 8), 10)
    assert (len(digits.x_train), len(digits.x_test)) == (1437, 360)
    assert md5(digits.y_train) == "89540aae6476251a53133f2817b240d3"
    ours = np.concatenate([digits.x_train, digits.x_test])[:, 0]
    levels = np.rint(ours / 255 * 16)
    assert sorted(map(bytes, levels)) == sorted(map(bytes, datasets.load_digits().images))


def test_importing_data_loads_no_heavy_package():
    code = (
        "import sys, fastnn.data; "
        "print(sorted({'numba', 'cupy', 'sklearn', 'scipy', 'pooch', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "call"), [("sklearn", data.load_digits), ("pooch", lambda: data.get("mnist"))]
)
def test_a_missing_package_says_what_to_install(package, call, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'fastnn-kernels\[data\]'"):
        call()


PIXELS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6))


def test_scale_is_division_by_255_rounded_once():
    x = np.arange(256, dtype=np.uint8)
    scaled = data.scale(x)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, np.float32(x) / np.float32(255))
    for low, high in ((0, 100), (-1, 1)):
        scaled = data.scale(x, low, high)
        assert (scaled.min(), scaled.max()) == (low, high)
        np.testing.assert_allclose(scaled, low + x / 255 * (high - low), rtol=1e-6, atol=1e-7)


def test_scale_refuses_what_has_no_known_range():
    with pytest.raises(TypeError, match="uint8 array, got an array of float32"):
        data.scale(np.zeros(3, np.float32))
    with pytest.raises(TypeError, match="got a list"):
        data.scale([1, 2])
    with pytest.raises(TypeError, match="float32 or float64, got float16"):
        data.scale(np.zeros(3, np.uint8), dtype=np.float16)


@given(PIXELS, st.sampled_from(["feature", "channel", "global"]))
def test_standardize_is_the_formula(x, per):
    axes = {"feature": 0, "channel": (0, *range(2, x.ndim)), "global": None}[per]
    mean, std = x.mean(axis=axes, keepdims=True), x.std(axis=axes, keepdims=True)
    std[std == 0] = 1
    result, used_mean, used_std = data.standardize(x, per=per, dtype=np.float64)
    np.testing.assert_allclose(result, (x - mean) / std, rtol=1e-9, atol=1e-9)
    assert used_mean.shape == used_std.shape == (() if per == "global" else mean.shape[1:])
    result, used_mean, used_std = data.standardize(x, per=per)
    assert result.dtype == used_mean.dtype == used_std.dtype == np.float32
    np.testing.assert_array_equal(data.standardize(x, used_mean, used_std)[0], result)


@given(PIXELS)
def test_subtract_mean_is_the_formula(x):
    result, mean = data.subtract_mean(x)
    assert result.dtype == mean.dtype == np.float32
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(result, x - mean, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(data.subtract_mean(x, mean)[0], result)


def test_standardize_works_in_pieces_as_in_one():
    x = np.random.default_rng(0).normal(1000, 0.5, (700, 300)).astype(np.float32)  # several pieces
    result, mean, std = data.standardize(x)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(std, wide.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(result, (wide - mean) / std, rtol=1e-6, atol=1e-6)


def test_a_feature_that_never_varies_becomes_zero():
    x = np.random.default_rng(0).random((1000, 3))
    x[:, 1] = 0.1  # not a binary fraction: a mean of a thousand of them need not be 0.1
    result, mean, std = data.standardize(x, dtype=np.float64)
    assert std[1] == 1
    assert mean[1] == 0.1
    assert not result[:, 1].any()
    assert np.isfinite(data.standardize(x, mean, np.zeros(3))[0]).all()


def test_standardize_of_a_sample_less_set_needs_statistics():
    x = np.empty((0, 4), np.float32)
    with pytest.raises(ValueError, match="no samples"):
        data.standardize(x)
    assert data.standardize(x, 0.5, 2.0)[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mean": 1.0}, ValueError, "both mean and std"),
        ({"mean": np.zeros(5), "std": 1.0}, ValueError, r"\(5,\).*\(2, 3, 4, 4\)"),
        ({"per": "pixel"}, ValueError, "'pixel'"),
        ({"x": [[1.0, 2.0]]}, TypeError, "got a list"),
        ({"x": np.zeros((2, 2), complex)}, TypeError, "complex128"),
    ],
)
def test_standardize_names_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        data.standardize(**{"x": np.zeros((2, 3, 4, 4), np.uint8), **arguments})


@given(hnp.arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 6)))
def test_one_hot_is_rows_of_the_identity(y):
    rows = data.one_hot(y, 7)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, np.eye(7)[y])


def test_one_hot_refuses_labels_it_cannot_place():
    for bad in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"0 \.\.\. 2"):
            data.one_hot(np.array(bad), 3)
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        data.one_hot(np.zeros((2, 1), int), 3)
    with pytest.raises(TypeError, match="float64"):
        data.one_hot(np.zeros(2), 3)


X, Y = np.arange(100).reshape(50, 2), np.arange(50)


def test_split_in_order_gives_views():
    first, second = data.split(X, Y, (30, 15))
    np.testing.assert_array_equal(first[1], Y[:30])
    np.testing.assert_array_equal(second[0], X[30:45])
    assert np.shares_memory(second[0], X)


@given(st.integers(0, 300), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), st.integers(0, 99))
def test_fractions_that_add_up_to_one_use_every_sample_once(n, weights, seed):
    fractions = [weight / sum(weights) for weight in weights]
    parts = data.split(np.arange(n), -np.arange(n), fractions, seed=seed)
    assert sorted(np.concatenate([x for x, _ in parts])) == list(range(n))
    for (x, y), fraction in zip(parts, fractions, strict=True):
        np.testing.assert_array_equal(x, -y)
        assert abs(len(x) - n * fraction) <= 1 + 1e-6


def test_a_seed_decides_the_parts():
    (x1, _), _ = data.split(X, Y, (0.9, 0.1), seed=1)
    (x2, _), _ = data.split(X, Y, (0.9, 0.1), seed=1)
    (x3, _), _ = data.split(X, Y, (0.9, 0.1), seed=2)
    np.testing.assert_array_equal(x1, x2)
    assert not np.array_equal(x1, x3)


@pytest.mark.parametrize("sizes", [(40, 11), (-1, 3), (0.9, 0.2), (1.5,), (np.nan, 0.5), (np.inf,)])
def test_split_refuses_more_than_there_is(sizes):
    with pytest.raises(ValueError, match="50 samples"):
        data.split(X, Y, sizes)


def test_split_refuses_fractions_mixed_with_numbers():
    with pytest.raises(TypeError, match="all integers or all fractions"):
        data.split(X, Y, (10, 0.5))


@given(st.integers(0, 40), st.integers(1, 12), st.booleans(), st.booleans())
def test_an_epoch_of_batches_meets_every_sample_once(n, batch_size, shuffle, drop_last):
    x, y = X[:n], Y[:n]
    got = list(data.batches(x, y, batch_size, seed=3, shuffle=shuffle, drop_last=drop_last))
    sizes = [len(part) for part, _ in got]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == (n - n % batch_size if drop_last else n)
    labels = [int(label) for _, part in got for label in part]
    assert len(set(labels)) == len(labels)
    assert shuffle or labels == list(range(len(labels)))
    for part, label in got:
        np.testing.assert_array_equal(part[:, 0], 2 * label)


def test_batches_follow_their_seed_and_one_generator_gives_each_epoch_its_own():
    def epoch(seed):
        return np.concatenate([y for _, y in data.batches(X, Y, 8, seed=seed)]).tolist()

    assert epoch(5) == epoch(5) != epoch(6)
    generator = np.random.default_rng(5)
    assert epoch(generator) != epoch(generator)
    fastnn.seed(9)
    first = epoch(None)
    fastnn.seed(9)
    assert epoch(None) == first


def test_batches_checks_before_the_first_batch():
    with pytest.raises(ValueError, match="got 50 and 49"):
        data.batches(X, Y[:49], 8)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        data.batches(X, Y, 0)


def test_device_arrays_are_indexed_and_transformed_where_they_are():
    cupy = pytest.importorskip("cupy")
    if (reason := fastnn.available_backends()["cupy"]) is not None:
        pytest.skip(reason)
    x, y = cupy.asarray(X.astype(np.uint8)), cupy.asarray(Y)
    got = list(data.batches(x, y, 8, seed=3))
    wanted = list(data.batches(X, Y, 8, seed=3))
    for (gx, gy), (wx, wy) in zip(got, wanted, strict=True):
        assert isinstance(gx, cupy.ndarray)
        np.testing.assert_array_equal(gx.get(), wx)
        np.testing.assert_array_equal(gy.get(), wy)
    np.testing.assert_array_equal(data.scale(x).get(), data.scale(X.astype(np.uint8)))
    np.testing.assert_array_equal(data.one_hot(y, 50).get(), data.one_hot(Y, 50))
    for ours, host in zip(data.standardize(x), data.standardize(X.astype(np.uint8)), strict=True):
        np.testing.assert_allclose(ours.get(), host, rtol=1e-6)
