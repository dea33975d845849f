"""What fastnn.functional promises of every function: inputs left alone, any memory, empty batches, NaN."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fastnn.functional as F
from fastnn import use_backend
from tests import parity
from tests.calls import CALLS, results, table


@pytest.fixture(autouse=True)
def _numpy_backend():
    with use_backend("numpy"):
        yield


def test_the_table_has_every_public_function() -> None:
    assert {call.function.__name__ for call in CALLS.values()} == set(F.__all__)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CALLS)
def test_inputs_are_never_written_to_and_results_are_fresh_and_of_their_dtype(name: str, dtype) -> None:
    call = table(dtype)[name]
    inputs = [a for a in [*call.arrays.values(), *call.others.values()] if isinstance(a, np.ndarray)]
    before = [a.copy() for a in inputs]
    outputs = results(call)
    assert outputs
    for a, was in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, was)
    for out in outputs:
        assert out.dtype == (np.int32 if out.dtype.kind == "i" else dtype)  # indices, beside the maxima
        assert out.flags.writeable
        assert not any(np.shares_memory(out, a) for a in inputs)


@pytest.mark.parametrize("layout", parity.LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_any_memory_gives_the_same_result(name: str, layout: str) -> None:
    call = CALLS[name]
    arranged = {k: parity.arrange(a, layout) for k, a in call.arrays.items()}
    others = {k: parity.arrange(a, layout) for k, a in call.others.items() if isinstance(a, np.ndarray)}
    for out, expected in zip(results(call, **arranged, **others), results(call), strict=True):
        np.testing.assert_allclose(out, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.batched])
def test_an_empty_batch_gives_empty_results_and_zero_gradients_without_a_warning(name: str) -> None:
    call = CALLS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = results(call, **{k: {**call.arrays, **call.others}[k][:0] for k in call.batched})
    for out, full in zip(outputs, results(call), strict=True):
        if len(out):
            assert out.shape == full.shape
            assert name == "batch_norm" or not out.any()  # that one returns its statistics
        else:
            assert out.shape[1:] == full.shape[1:]


def test_the_loss_of_an_empty_batch_is_zero_as_a_sum_and_nan_as_a_mean() -> None:
    nothing, labels = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    for reduction, expected in (("sum", 0.0), ("mean", np.nan), ("batchmean", np.nan)):
        for loss, grad in (
            F.softmax_cross_entropy(nothing, labels, reduction=reduction),
            F.sigmoid_cross_entropy(nothing, nothing, reduction=reduction),
            F.mse(nothing, nothing, reduction=reduction),
        ):
            np.testing.assert_equal(loss, expected)
            assert grad.shape == (0, 4)


@pytest.mark.parametrize("name", CALLS)
def test_nan_and_infinity_pass_without_a_warning(name: str) -> None:
    call = CALLS[name]
    planted = {k: parity.plant(a, 1) for k, a in call.arrays.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert any(not np.isfinite(out).all() for out in results(call, **planted))


@pytest.mark.parametrize("layout", ["C", "transposed", "channels_last"])
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "log_softmax"])
def test_elementwise_results_lie_in_memory_as_their_input(name: str, layout: str) -> None:
    x = parity.arrange(np.ones((2, 3, 4, 5), np.float32), layout)
    assert getattr(F, name)(x).strides == x.strides
    assert getattr(F, f"{name}_backward")(np.ones(x.shape, np.float32), x).strides == x.strides
    assert F.dropout(x, 0.5, 1, 2).strides == F.dropout(x, 1, 1, 2).strides == x.strides


@pytest.mark.parametrize("name", [name for name in CALLS if "2d" in name or name == "col2im"])
def test_image_results_lie_channels_last(name: str) -> None:
    for out in results(CALLS[name]):
        if out.ndim == 4 and out.shape[0] == 2:  # not a filter's gradient
            assert out.transpose(0, 2, 3, 1).flags.c_contiguous


def test_an_int_a_pair_and_a_list_mean_the_same() -> None:
    expected = CALLS["conv2d"](stride=2)
    for stride in ((2, 2), [2, 2], np.int64(2), np.array([2, 2]).tolist()):
        np.testing.assert_array_equal(CALLS["conv2d"](stride=stride), expected)
    np.testing.assert_array_equal(
        CALLS["max_pool2d"](kernel_size=[2, 2], stride=None), CALLS["max_pool2d"](stride=2)
    )
    expected = CALLS["conv2d_max_pool2d"](pool_stride=2)
    for options in (
        {"pool_size": [2, 2]},
        {"pool_size": np.int64(2), "pool_stride": None},
        {"dilation": [1, 1]},
    ):
        for result, theirs in zip(CALLS["conv2d_max_pool2d"](**options), expected, strict=True):
            np.testing.assert_array_equal(result, theirs)


def test_convolution_and_pooling_in_one_call_are_the_two_calls() -> None:
    call, options = (
        CALLS["conv2d_max_pool2d"],
        {"pool_size": (2, 3), "pool_stride": (1, 2), "pool_padding": 1},
    )
    options["ceil_mode"] = True
    between = CALLS["conv2d"]()
    expected = F.max_pool2d(between, (2, 3), stride=(1, 2), padding=1, ceil_mode=True, return_indices=True)
    for result, theirs in zip(call(**options), expected, strict=True):
        np.testing.assert_array_equal(result, theirs)
    np.testing.assert_array_equal(call(**options, activation="tanh")[0], F.tanh(expected[0]))
    operands = call.arrays["x"], call.arrays["weight"]
    for input_grad in (True, False):
        options = {"padding": 1, "groups": 2, "input_grad": input_grad}
        result = F.conv2d_max_pool2d_backward(*expected, *operands, **options)
        slope = F.max_pool2d_backward(*expected, between.shape)
        for ours, theirs in zip(result, F.conv2d_backward(slope, *operands, **options), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_labels_and_indices_may_be_of_any_integer_type() -> None:
    labels, pooled = CALLS["softmax_cross_entropy, labels"], CALLS["max_pool2d_backward"]
    both, several = CALLS["conv2d_max_pool2d_backward"], np.arange(72).reshape(2, 6, 2, 3) % 35
    indices = np.arange(160).reshape(2, 4, 4, 5) % 30
    loss, back, gradients = labels()[0], pooled(indices=indices), both(indices=several)
    for dtype in ("int8", "uint8", "int32", "uint64", ">i4", ">u8"):
        assert labels(targets=labels.others["targets"].astype(dtype))[0] == loss
        np.testing.assert_array_equal(pooled(indices=indices.astype(dtype)), back)
        for result, expected in zip(both(indices=several.astype(dtype)), gradients, strict=True):
            np.testing.assert_array_equal(result, expected)


def test_a_subclass_is_taken_for_the_array_it_is() -> None:
    matrix = np.ones((3, 4), np.float32).view(np.recarray)
    out = F.relu(matrix)
    assert type(out) is np.ndarray
    np.testing.assert_array_equal(out, 1)


def test_dropout_at_one_drops_everything() -> None:
    assert not F.dropout(np.full((3, 4), np.inf), 1, 1, 2).any()
    assert not F.dropout_backward(np.full((3, 4), np.inf), 1.0, 1, 2).any()


def test_reductions_divide_by_examples_or_by_terms() -> None:
    a, b, labels = np.ones((3, 4)), np.zeros((3, 4)), np.array([0, 1, 2])
    assert [F.mse(a, b, reduction=r)[0] for r in ("sum", "mean", "batchmean")] == [12, 1, 4]
    assert F.mse(a, b, factor=0.5) == (pytest.approx(0.5), pytest.approx(a / 12))
    by = [F.softmax_cross_entropy(a, labels, reduction=r)[0] for r in ("sum", "mean", "batchmean")]
    assert by == pytest.approx([3 * np.log(4), np.log(4), np.log(4)])
    by = [F.sigmoid_cross_entropy(b, a, reduction=r)[0] for r in ("sum", "mean", "batchmean")]
    assert by == pytest.approx([12 * np.log(2), np.log(2), 4 * np.log(2)])


def test_backwards_overwrite_the_buffers_they_are_given_and_make_the_missing_one() -> None:
    for name in ("linear_backward", "conv2d_backward", "conv2d_max_pool2d_backward"):
        call = CALLS[name]
        _, grad_weight, grad_bias = call()
        given = np.full_like(call.arrays["weight"], np.nan), np.full_like(grad_bias, np.nan)
        grad_x, *filled = call(out=given, input_grad=False)
        assert grad_x is None
        assert filled[0] is given[0]
        assert filled[1] is given[1]
        alone = call(out=(np.full_like(given[0], np.nan), None))[1:]
        for result in (filled, alone):
            np.testing.assert_array_equal(result[0], grad_weight)
            np.testing.assert_array_equal(result[1], grad_bias)
