"""docs/from-numpy.md tells the truth: its code runs, and every step of it trains the same network."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import from_numpy
from bench.from_numpy import Step

PAGE = from_numpy.PAGE.read_text(encoding="utf-8")
STEPS = from_numpy.steps(PAGE)
SECTIONS = {title: list(steps) for title, steps in itertools.groupby(STEPS, lambda step: step.section)}


def trained(step: Step) -> tuple[list[float], list[Any]]:
    """The losses of ten steps of training, and the weights behind them."""
    names = step.names()
    return names["epoch"](names["x_train"][:640], names["y_train"][:640]), names["weights"]()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_step_of_the_page_leaves_the_weights_that_the_step_by_hand_leaves(
    section: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTNN_DATA", str(data_root))
    by_hand, *others = SECTIONS[section]
    losses, weights = trained(by_hand)
    assert losses[-1] < losses[0]
    for step in others:
        taken, left = trained(step)
        np.testing.assert_allclose(taken, losses, rtol=1e-4)
        for w, expected in zip(left, weights, strict=True):
            np.testing.assert_allclose(w, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("section", SECTIONS)
def test_page_has_a_table_of_times_for_every_section(section: str) -> None:
    between = PAGE.split(f"<!-- {section}: from here -->\n")[1].split("<!-- to here -->")[0]
    rows = [row.strip("| ").split(" | ") for row in between.splitlines()[2:]]
    assert [row[0] for row in rows] == [step.title for step in SECTIONS[section]]
    assert all(float(ms) > 0 for _, ms, _ in rows)


def test_step_is_timed_with_the_code_of_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "x_train = y_train = list(range(10_000))\ndef epoch(x, y): seen.append(len(x))\nseen = []"
    monkeypatch.setattr(from_numpy, "SECONDS", 0.0)
    assert 0 < from_numpy.milliseconds(Step("", "", code)) < 100
