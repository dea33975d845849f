"""Learning-rate schedules."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest

from fastnn import schedules


def test_constant_stays() -> None:
    assert [schedules.constant(0.1)(t) for t in (0, 7, 10**6)] == [0.1] * 3


def test_exponential_decays_by_its_factor_each_time() -> None:
    schedule = schedules.exponential(0.01, 0.97)
    assert schedule(0) == 0.01
    assert schedule(3) == pytest.approx(0.01 * 0.97 * 0.97 * 0.97, rel=1e-15)
    assert schedules.exponential(1.0, 0.25, every=2)(1) == 0.5


def test_inverse_time_is_keras_decay() -> None:
    schedule = schedules.inverse_time(0.015, 0.001)
    assert [schedule(t) for t in (0, 1, 1000)] == pytest.approx([0.015, 0.015 / 1.001, 0.0075], rel=1e-15)


def test_step_goes_down_after_every_so_many() -> None:
    schedule = schedules.step(1.0, 0.5, 3)
    assert [schedule(t) for t in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_cyclical_triangular_follows_the_formula_of_its_paper() -> None:
    low, high, size = 1e-5, 1e-1, 500
    schedule = schedules.cyclical_triangular(low, high, size)
    for t in range(0, 3000, 7):
        cycle = math.floor(1 + t / (2 * size))
        x = abs(t / size - 2 * cycle + 1)
        assert schedule(t) == pytest.approx(low + (high - low) * max(0, 1 - x), rel=1e-12)
    assert schedule(0) == schedule(1000) == low
    assert schedule(500) == schedule(1500) == high


def test_cosine_falls_from_lr_to_lr_min_and_stays() -> None:
    schedule = schedules.cosine(1.0, 100, lr_min=0.2)
    assert schedule(0) == 1.0
    assert schedule(50) == pytest.approx(0.6)
    assert schedule(100) == schedule(1000) == pytest.approx(0.2)
    assert all(schedule(t) > schedule(t + 1) for t in range(100))


def test_cosine_warms_up_in_equal_steps() -> None:
    schedule = schedules.cosine(1.0, 10, warmup=4)
    assert [schedule(t) for t in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule(7) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.exponential(0.1, 0.0),
        lambda: schedules.exponential(0.1, 0.9, every=0),
        lambda: schedules.inverse_time(0.1, -1),
        lambda: schedules.step(0.1, -0.5, 2),
        lambda: schedules.step(0.1, 0.5, 0),
        lambda: schedules.cyclical_triangular(0.1, 0.01, 5),
        lambda: schedules.cyclical_triangular(0.01, 0.1, 0),
        lambda: schedules.cosine(0.1, 10, warmup=10),
        lambda: schedules.cosine(0.1, 0),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


def test_a_schedule_shows_its_settings_and_survives_pickling() -> None:
    schedule = schedules.cosine(0.1, 20, warmup=2)
    assert repr(schedule) == "cosine(lr=0.1, total=20, lr_min=0.0, warmup=2)"
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert again(5) == schedule(5)
