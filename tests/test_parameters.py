"""Parameters: buffers that stay, whatever is assigned to them."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.layers import Conv2d, Parameter
from fastnn.optim import Adam
from tests.backends import on_backend  # noqa: F401


def test_assignment_copies_into_the_array_that_is_there() -> None:
    parameter = Parameter("p", np.zeros((2, 3), np.float32))
    data, grad = parameter.data, parameter.grad
    values = np.arange(6, dtype=np.float32).reshape(3, 2).T
    parameter.data, parameter.grad = values, -values
    assert parameter.data is data
    assert parameter.grad is grad
    np.testing.assert_array_equal(data, values)
    np.testing.assert_array_equal(grad, -values)
    values[...] = 9
    assert data.max() == 5


def test_a_parameter_copies_what_it_is_made_of() -> None:
    for values in (np.ones((2, 3)), np.ones((2, 3, 1, 1))):
        assert not np.shares_memory(Parameter("p", values).data, values)


def test_in_place_arithmetic_works_on_both_arrays() -> None:
    parameter = Parameter("p", np.ones(3))
    parameter.grad += 2
    parameter.data -= 0.25 * parameter.grad
    np.testing.assert_array_equal(parameter.data, 0.5)


def test_data_of_the_other_dtype_remakes_both_arrays() -> None:
    parameter = Parameter("p", np.ones((2, 1, 3, 3), np.float32))
    parameter.data = np.full((2, 1, 3, 3), 1 / 3)
    assert parameter.data.dtype == parameter.grad.dtype == np.float64
    assert (parameter.data == 1 / 3).all()
    assert parameter.data.strides == parameter.grad.strides


@pytest.mark.parametrize(
    ("attribute", "value", "error", "message"),
    [
        ("data", np.ones(2), ValueError, r"\(3,\).*\(2,\)"),
        ("grad", np.ones((3, 1)), ValueError, r"\(3,\).*\(3, 1\)"),
        ("data", [1.0, 2.0, 3.0], TypeError, "list"),
        ("grad", None, TypeError, "NoneType"),
        ("data", np.ones(3, int), TypeError, "int64"),
        ("grad", np.ones(3, np.float32), TypeError, "float64 too"),
    ],
)
def test_what_does_not_fit_is_refused(
    attribute: str, value: object, error: type[Exception], message: str
) -> None:
    parameter = Parameter("p", np.ones(3))
    with pytest.raises(error, match=message):
        setattr(parameter, attribute, value)
    assert (parameter.data == 1).all()


def test_a_parameter_of_integers_is_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        Parameter("p", np.ones(3, int))


def test_filters_lie_in_memory_as_kh_kw_i_o(backend: str) -> None:
    weight = Conv2d(5, 4, (2, 3)).weight
    assert weight.data.shape == (4, 5, 2, 3)
    for array in (weight.data, weight.grad):
        assert array.transpose(2, 3, 1, 0).flags.c_contiguous
    assert repr(weight) == "Parameter('weight', shape=(4, 5, 2, 3), dtype=float32)"


@pytest.mark.parametrize("shape", [(1,), (7, 3), (2, 1, 5, 3), (4096, 3)])
@pytest.mark.parametrize("loaded", [False, True])
def test_what_an_update_walks_begins_on_a_line_and_at_four_places_of_a_page(
    shape: tuple[int, ...], loaded: bool
) -> None:
    parameter = Parameter("p", np.ones(shape, np.float32))
    adam = Adam([parameter], 1e-3)
    adam.step()
    if loaded:
        adam.load_state_dict(adam.state_dict())
    walked = [parameter.data, parameter.grad, *(arrays[0] for arrays in adam.groups[0].state.values())]
    assert len({array.strides for array in walked}) == 1
    first, *others = [array.ctypes.data for array in walked]
    assert first % 64 == 0
    assert [(other - first) % 4096 for other in others] == [1024, 2048, 3072]


def test_a_large_parameter_has_a_gap_before_it() -> None:
    for count, gap in ((1 << 12, 1 << 16), ((1 << 12) - 1, 0)):
        parameter = Parameter("p", np.zeros(count, np.float32))
        for array in (parameter.data, parameter.grad):
            block = array
            while block.base is not None:
                block = block.base
            before = array.ctypes.data - block.ctypes.data
            assert gap <= before < gap + 4096
            assert before + array.nbytes <= block.nbytes
