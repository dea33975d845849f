"""What fastnn.functional refuses, and in what words; each time before any kernel runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import backend, use_backend
from tests.calls import ARRAYS, CALLS, PAIRED


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch: pytest.MonkeyPatch):
    """Whatever kernel is reached, the test fails."""

    class Forbidden:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *arguments: pytest.fail(f"the kernel {name} ran")

    with use_backend("numpy") as numpy_backend:
        for stem in backend.STEMS:
            monkeypatch.setattr(numpy_backend, stem, Forbidden())
        yield


@pytest.mark.parametrize("dtype", ["int64", "float16", "complex64", "bool", ">f4"])
@pytest.mark.parametrize(("name", "array"), [(n, a) for n, a in ARRAYS if "cross" not in n or a != "targets"])
def test_another_dtype_is_a_type_error_that_says_what_to_cast(name: str, array: str, dtype: str) -> None:
    with pytest.raises(
        TypeError, match=rf"{array} has dtype {np.dtype(dtype)}.*{array}\.astype\(np\.float32\)"
    ):
        CALLS[name](**{array: CALLS[name].arrays[array].astype(dtype)})


@pytest.mark.parametrize(("name", "array"), PAIRED)
def test_mixed_precision_is_a_type_error_that_names_the_odd_one(name: str, array: str) -> None:
    with pytest.raises(TypeError, match=r"float32.*float64|float64.*float32"):
        CALLS[name](**{array: CALLS[name].arrays[array].astype(np.float64)})


@pytest.mark.parametrize(("name", "array"), ARRAYS)
def test_a_list_or_number_is_a_type_error_that_says_how_to_convert_it(name: str, array: str) -> None:
    for value in (CALLS[name].arrays[array].tolist(), 1.0):
        with pytest.raises(TypeError, match=rf"{array} must be a NumPy or CuPy array.*np\.asarray\({array}"):
            CALLS[name](**{array: value})


@pytest.mark.parametrize(
    ("name", "array"), [(n, a) for n, a in ARRAYS if (n, a) in PAIRED or CALLS[n].arrays[a].ndim > 2]
)
def test_another_number_of_axes_is_a_value_error_that_shows_the_shape(name: str, array: str) -> None:
    wrong = CALLS[name].arrays[array][None]
    with pytest.raises(ValueError) as error:
        CALLS[name](**{array: wrong})
    assert str(wrong.shape) in str(error.value)


@pytest.mark.parametrize(
    ("name", "array", "wrong", "beside"),
    [
        ("linear", "x", (3, 5), (4, 5)),
        ("linear", "bias", (4,), (4, 5)),
        ("linear_backward", "grad", (3, 4), (4, 5)),
        ("linear_backward", "x", (2, 4), (3, 5)),
        ("conv2d", "x", (2, 2, 5, 6), (6, 2, 3, 2)),
        ("conv2d", "weight", (5, 2, 3, 2), (2, 4, 5, 6)),
        ("conv2d", "bias", (5,), (6, 2, 3, 2)),
        ("conv2d_backward", "grad", (2, 6, 5, 6), (2, 6, 5, 7)),
        ("conv2d_max_pool2d", "x", (2, 2, 5, 6), (6, 2, 3, 2)),
        ("conv2d_max_pool2d", "weight", (5, 2, 3, 2), (2, 4, 5, 6)),
        ("conv2d_max_pool2d", "bias", (5,), (6, 2, 3, 2)),
        ("conv2d_max_pool2d_backward", "grad", (2, 6, 2, 2), (2, 6, 2, 3)),
        ("conv2d_max_pool2d_backward", "grad", (2, 5, 2, 3), (6, 2, 3, 2)),
        ("conv2d_max_pool2d_backward", "x", (3, 4, 5, 6), (2, 6, 2, 3)),
        ("conv2d_max_pool2d_backward", "weight", (6, 3, 3, 2), (2, 4, 5, 6)),
        ("col2im", "cols", (2, 23, 15), (5, 6)),
        ("col2im", "cols", (2, 24, 14), (5, 6)),
        ("max_pool2d_backward", "grad", (2, 4, 4, 4), (2, 4, 4, 5)),
        ("avg_pool2d_backward", "grad", (2, 4, 5, 5), (2, 4, 4, 5)),
        ("softmax_cross_entropy", "targets", (3, 5), (3, 4)),
        ("softmax_cross_entropy, labels", "logits", (4, 4), (3,)),
        ("sigmoid_cross_entropy", "targets", (3, 1), (3, 4)),
        ("mse", "target", (4,), (3, 4)),
        ("batch_norm", "running_var", (3,), (2, 4, 5, 6)),
        ("batch_norm_backward", "grad", (2, 4, 5, 5), (2, 4, 5, 6)),
        ("gelu_backward", "grad", (3, 1), (3, 4)),
        ("softmax_backward", "out", (1, 4), (3, 4)),
    ],
)
def test_a_wrong_shape_is_a_value_error_naming_both(
    name: str, array: str, wrong: tuple, beside: tuple
) -> None:
    with pytest.raises(ValueError) as error:
        CALLS[name](**{array: np.ones(wrong, np.float32)})
    assert str(wrong) in str(error.value)
    assert str(beside) in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("linear", {"activation": "swish"}, ValueError, "activation must be one of .*'gelu', not 'swish'"),
        ("conv2d", {"activation": "swish"}, ValueError, "activation must be one of"),
        ("conv2d", {"stride": 0}, ValueError, "stride must be at least 1, not 0"),
        ("conv2d", {"padding": (1, -1)}, ValueError, r"padding must be at least 0, not \(1, -1\)"),
        (
            "conv2d",
            {"dilation": (1, 2, 3)},
            TypeError,
            r"dilation must be an int or a pair of ints, not \(1, 2, 3\)",
        ),
        ("conv2d", {"stride": 1.5}, TypeError, "stride must be an int or a pair of ints, not 1.5"),
        ("conv2d", {"stride": ["1", 1]}, TypeError, "stride must be an int or a pair of ints"),
        ("conv2d", {"groups": 3}, ValueError, r"groups=3 got x \(2, 4, 5, 6\), weight \(6, 2, 3, 2\)"),
        ("conv2d", {"groups": 0}, ValueError, "groups=0"),
        ("conv2d", {"padding": 0, "dilation": 3}, ValueError, r"\(3, 2\).*does not fit an input of \(5, 6\)"),
        ("conv2d_max_pool2d", {"activation": "swish"}, ValueError, "activation must be one of"),
        ("conv2d_max_pool2d", {"stride": 0}, ValueError, "^stride must be at least 1, not 0"),
        (
            "conv2d_max_pool2d",
            {"groups": 3},
            ValueError,
            r"conv2d_max_pool2d with groups=3 got x \(2, 4, 5, 6\)",
        ),
        ("conv2d_max_pool2d", {"dilation": 4}, ValueError, r"\(3, 2\).*does not fit an input of \(5, 6\)"),
        ("conv2d_max_pool2d", {"pool_size": 0}, ValueError, "pool_size must be at least 1, not 0"),
        (
            "conv2d_max_pool2d",
            {"pool_stride": 1.5},
            TypeError,
            "pool_stride must be an int or a pair of ints",
        ),
        (
            "conv2d_max_pool2d",
            {"pool_dilation": [1, 0]},
            ValueError,
            r"pool_dilation must be at least 1, not \[1, 0",
        ),
        (
            "conv2d_max_pool2d",
            {"pool_padding": 2},
            ValueError,
            r"pool_padding \(2, 2\) is more than half of pool_size \(2, 2\)",
        ),
        ("conv2d_max_pool2d", {"pool_size": 6}, ValueError, r"\(6, 6\).*does not fit an input of \(5, 7\)"),
        ("conv2d_max_pool2d_backward", {"groups": 0}, ValueError, "conv2d_max_pool2d_backward with groups=0"),
        ("conv2d_max_pool2d_backward", {"padding": -1}, ValueError, "padding must be at least 0, not -1"),
        (
            "conv2d_max_pool2d_backward",
            {"out": (np.ones((6, 2, 3, 2)), None)},
            ValueError,
            r"out\[0\] is float64 .* float32",
        ),
        (
            "im2col",
            {"kernel_size": (6, 2)},
            ValueError,
            r"kernel of \(6, 2\).*does not fit an input of \(5, 6\)",
        ),
        ("col2im", {"output_size": (0, 6)}, ValueError, "output_size must be at least 1"),
        ("max_pool2d", {"kernel_size": 0}, ValueError, "kernel_size must be at least 1, not 0"),
        (
            "max_pool2d",
            {"padding": 2},
            ValueError,
            r"padding \(2, 2\) is more than half of kernel_size \(2, 2\)",
        ),
        (
            "max_pool2d",
            {"kernel_size": 6},
            ValueError,
            r"window of \(6, 6\).*does not fit an input of \(5, 6\)",
        ),
        ("max_pool2d", {"padding": 1, "dilation": 7}, ValueError, "misses every pixel|does not fit"),
        (
            "avg_pool2d",
            {"kernel_size": "2"},
            TypeError,
            "kernel_size must be an int or a pair of ints, not '2'",
        ),
        ("avg_pool2d_backward", {"input_shape": (2, 4, 5)}, ValueError, r"input_shape must be .*\(2, 4, 5\)"),
        ("max_pool2d_backward", {"input_shape": (2, 3, 5, 6)}, ValueError, r"\(2, 4, 4, 5\).*\(2, 3, 5, 6\)"),
        ("softmax", {"axis": 2}, ValueError, r"axis 2 does not exist in shape \(3, 4\)"),
        ("log_softmax", {"axis": -3}, ValueError, "axis -3 does not exist"),
        ("softmax_backward", {"axis": 2}, ValueError, "axis 2 does not exist"),
        ("gelu", {"approximate": "fast"}, ValueError, 'approximate must be "none" or "tanh", not \'fast\''),
        ("gelu_backward", {"approximate": None}, ValueError, "approximate must be"),
        ("dropout", {"p": 1.1}, ValueError, "p must be a probability"),
        ("dropout", {"p": float("nan")}, ValueError, "p must be a probability"),
        ("dropout", {"seed": -1}, ValueError, "seed and offset must be in"),
        ("dropout_backward", {"offset": 2**64}, ValueError, "seed and offset must be in"),
        ("dropout", {"seed": 0.5}, TypeError, "integer"),
        (
            "mse",
            {"reduction": "none"},
            ValueError,
            'reduction must be "mean", "batchmean" or "sum", not \'none\'',
        ),
        ("softmax_cross_entropy", {"reduction": None}, ValueError, "reduction must be"),
        ("linear_backward", {"out": (np.ones((5, 4), np.float32), None)}, ValueError, r"\(5, 4\).*\(4, 5\)"),
        ("linear_backward", {"out": (np.ones((4, 5)), None)}, ValueError, r"out\[0\] is float64 .* float32"),
        (
            "conv2d_backward",
            {"out": (np.ones((6, 2, 3, 2), np.float32), np.ones(5, np.float32))},
            ValueError,
            r"\(5,\).*\(6,\)",
        ),
    ],
)
def test_an_option_out_of_range_is_an_error_that_says_so(
    name: str, options: dict, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        CALLS[name](**options)


def test_a_dilated_window_that_steps_over_the_whole_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"misses every pixel of an input of \(2, 2\)"):
        F.max_pool2d(np.ones((1, 1, 2, 2), np.float32), 2, padding=1, dilation=3)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", ">i4"])
def test_a_label_out_of_range_is_a_value_error_naming_it(dtype: str) -> None:
    wrong = [4, 100] if np.dtype(dtype).kind == "u" else [4, -1]
    for label in wrong:
        with pytest.raises(ValueError, match=rf"holds the label {label}, but logits has 4 classes"):
            CALLS["softmax_cross_entropy"](targets=np.array([0, label, 3], dtype))


@pytest.mark.parametrize(
    ("targets", "error", "words"),
    [
        (np.array([True, False, True]), TypeError, "targets has dtype bool"),
        (np.eye(4, dtype=np.int64)[:3], ValueError, "one-hot targets must be of the dtype of logits"),
        (np.ones(3, np.float32), ValueError, r"logits \(3, 4\), targets \(3,\)"),
        (np.ones((3, 4)), TypeError, r"targets\.astype\(np\.float32\)"),
    ],
)
def test_targets_that_are_neither_labels_nor_probabilities_are_refused(targets, error, words) -> None:
    with pytest.raises(error, match=words):
        CALLS["softmax_cross_entropy"](targets=targets)


@pytest.mark.parametrize(
    ("name", "pixels"), [("max_pool2d_backward", 30), ("conv2d_max_pool2d_backward", 35)]
)
def test_an_index_outside_the_image_is_a_value_error(name: str, pixels: int) -> None:
    shape = CALLS[name].others["indices"].shape
    for dtype in (np.int32, np.int64):
        for index in (pixels, -1, np.iinfo(dtype).max, np.iinfo(dtype).min):
            indices = np.full(shape, pixels - 1, dtype)
            indices[-1, -1, -1, -1] = index
            with pytest.raises(ValueError, match=f"outside the {pixels} pixels"):
                CALLS[name](indices=indices)
    with pytest.raises(TypeError, match="indices has dtype float32"):
        CALLS[name](indices=np.zeros(shape, np.float32))
    with pytest.raises(TypeError, match="indices must be a NumPy or CuPy array"):
        CALLS[name](indices=np.zeros(shape, int).tolist())


def test_batch_norm_refuses_to_train_on_one_value_a_channel() -> None:
    with pytest.raises(ValueError, match=r"more than one value a channel, but x has shape \(1, 4\)"):
        CALLS["batch_norm"](x=np.ones((1, 4), np.float32), training=True)
