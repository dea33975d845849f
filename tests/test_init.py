"""Initial values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import init

FAN_IN, FAN_OUT = 400, 300


def draw(initializer: Any, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return initializer(np.random.default_rng(seed), (FAN_IN, FAN_OUT), FAN_IN, FAN_OUT, dtype)


@pytest.mark.parametrize(
    ("initializer", "std"),
    [
        (init.he_normal, (2 / FAN_IN) ** 0.5),
        (init.xavier_normal, (2 / (FAN_IN + FAN_OUT)) ** 0.5),
        (init.normal(0.3), 0.3),
    ],
)
def test_normal_ones_have_their_standard_deviation(initializer: Any, std: float) -> None:
    values = draw(initializer)
    assert abs(values.mean()) < 4 * std / values.size**0.5
    assert values.std() == pytest.approx(std, rel=0.01)
    assert (np.abs(values) > 2 * std).mean() == pytest.approx(0.0455, abs=0.003)  # the tails of a normal


@pytest.mark.parametrize(
    ("initializer", "bound"),
    [
        (init.fan_in_uniform, FAN_IN**-0.5),
        (init.he_uniform, (6 / FAN_IN) ** 0.5),
        (init.xavier_uniform, (6 / (FAN_IN + FAN_OUT)) ** 0.5),
        (init.lecun_uniform, (3 / FAN_IN) ** 0.5),
    ],
)
def test_uniform_ones_fill_their_interval(initializer: Any, bound: float) -> None:
    values = draw(initializer)
    assert 0.999 * bound < np.abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_zeros_and_constant() -> None:
    assert not draw(init.zeros).any()
    assert (draw(init.constant(1.5)) == 1.5).all()


@pytest.mark.parametrize(
    "initializer", [init.he_normal, init.he_uniform, init.zeros, init.normal(1), init.constant(2)]
)
def test_values_have_the_dtype_and_are_the_same_in_both(initializer: Any) -> None:
    single, double = draw(initializer, np.float32), draw(initializer, np.float64)
    assert single.dtype == np.float32
    assert double.dtype == np.float64
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'kaiming'.*he_normal"):
        fastnn.Linear(3, 2, init="kaiming")


def test_layers_take_a_name_or_a_function_and_draw_from_the_seed() -> None:
    with fastnn.use_backend("numpy"):
        fastnn.seed(3)
        named = fastnn.Linear(FAN_IN, FAN_OUT, init="he_normal", dtype=np.float64)
    np.testing.assert_array_equal(named.weight.data, draw(init.he_normal, seed=3))
    assert not named.bias.data.any()  # a bias starts at zero, but by the default init

    def ones(rng: Any, shape: Any, fan_in: int, fan_out: int, dtype: Any) -> np.ndarray:
        assert (shape, fan_in, fan_out) == ((6, 2, 3, 5), 2 * 15, 6 * 15)
        return np.ones(shape, dtype)

    with fastnn.use_backend("numpy"):
        assert (fastnn.Conv2d(4, 6, (3, 5), groups=2, init=ones).weight.data == 1).all()


def test_default_is_torch_s() -> None:
    with fastnn.use_backend("numpy"):
        linear, conv = fastnn.Linear(400, 3000), fastnn.Conv2d(16, 500, 5)
    for layer, fan_in in ((linear, 400), (conv, 400)):
        for parameter in layer.parameters():
            largest = float(np.abs(parameter.data).max())
            assert 0.98 * fan_in**-0.5 < largest <= fan_in**-0.5 * (1 + 1e-6)


def test_an_initializer_that_gives_another_shape_is_refused() -> None:
    with fastnn.use_backend("numpy"), pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        fastnn.Linear(3, 2, init=lambda rng, shape, fan_in, fan_out, dtype: np.zeros((2, 3)))
