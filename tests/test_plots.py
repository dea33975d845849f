"""Pictures: each call gives a figure that shows what it was given, and a PNG where it was asked for one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fastnn import plots, schedules
from fastnn.training import History

pytest.importorskip("matplotlib")


def history(epochs=3, steps=4, validation=True):
    made = History(step_loss=[1 / (1 + i) for i in range(epochs * steps)])
    for e in range(epochs):
        value = 0.5 / (e + 1)
        made.epochs.append(
            {
                "epoch": e + 1,
                "steps": (e + 1) * steps,
                "loss": value,
                "accuracy": 1 - value,
                "val_loss": value + 0.1 if validation else None,
                "val_accuracy": 0.9 - value if validation else None,
                "lr": 0.1,
                "seconds": 1.0,
                "examples_per_second": 10.0,
            }
        )
    return made


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 3000


def test_curves_draw_loss_and_accuracy_of_train_and_validation(tmp_path):
    figure = plots.curves(history(), tmp_path / "c.png", title="digits")
    loss, accuracy = figure.axes
    assert set(lines(loss)) == {"batches", "train", "validation"}
    assert set(lines(accuracy)) == {"train", "validation"}
    assert lines(loss)["train"].get_xydata().tolist() == [[1, 0.5], [2, 0.25], [3, 0.5 / 3]]
    np.testing.assert_allclose(lines(accuracy)["validation"].get_ydata(), [0.4, 0.65, 0.9 - 0.5 / 3])
    batches = lines(loss)["batches"].get_xydata()
    np.testing.assert_allclose(
        batches[:, 0], (np.arange(12) + 0.5) / 4
    )  # in epochs, at the middle of each step
    assert lines(loss)["train"].get_linestyle() != lines(loss)["validation"].get_linestyle()
    assert is_png(tmp_path / "c.png")


def test_curves_of_a_short_or_broken_run_are_drawn_too(tmp_path):
    assert set(lines(plots.curves(history(validation=False)).axes[1])) == {"train"}
    plots.curves(History(), tmp_path / "empty.png")
    broken = history(1)
    broken.step_loss += [float("nan"), float("inf")]
    plots.curves(broken, tmp_path / "broken.png")
    assert is_png(tmp_path / "broken.png")


def test_weight_images_are_the_columns_of_the_weight_matrix(tmp_path):
    weights = np.random.default_rng(0).normal(size=(12, 6))
    figure = plots.weight_images(weights, (3, 4), tmp_path / "w.png")
    cells = [axes for axes in figure.axes if axes.images]
    assert len(cells) == 6
    for unit, axes in enumerate(cells):
        assert np.array_equal(axes.images[0].get_array(), weights[:, unit].reshape(3, 4))
        assert axes.images[0].get_clim() == (-abs(weights).max(), abs(weights).max())
    assert is_png(tmp_path / "w.png")


def test_weight_images_of_colours_fill_their_own_range():
    weights = np.random.default_rng(0).normal(size=(3 * 4 * 4, 2))
    figure = plots.weight_images(weights, (3, 4, 4), names=["cat", "dog"])
    assert [axes.get_title() for axes in figure.axes] == ["cat", "dog"]
    for unit, axes in enumerate(figure.axes):
        shown = axes.images[0].get_array()
        assert shown.shape == (4, 4, 3)
        assert (shown.min(), shown.max()) == (0, 1)
        top = np.unravel_index(weights[:, unit].argmax(), (3, 4, 4))
        assert shown[top[1], top[2], top[0]] == 1
    with pytest.raises(ValueError, match=r"\(48, 2\).*\(5, 5\)"):
        plots.weight_images(weights, (5, 5))


def test_confusion_matrix_writes_every_number(tmp_path):
    counts = np.array([[90, 10], [25, 75]])
    axes = plots.confusion_matrix(counts, ["airplane", "ship"], tmp_path / "m.png").axes[0]
    assert [text.get_text() for text in axes.texts] == ["90", "10", "25", "75"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["airplane", "ship"]
    shares = plots.confusion_matrix(counts / 100).axes[0]
    assert [text.get_text() for text in shares.texts] == ["90.0", "10.0", "25.0", "75.0"]
    assert is_png(tmp_path / "m.png")
    with pytest.raises(ValueError, match="square"):
        plots.confusion_matrix(np.zeros((2, 3)))


def test_misclassified_shows_the_wrong_ones_with_both_classes(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (6, 1, 5, 5)).astype(np.uint8)
    true, predicted = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 2, 2, 1, 1, 0])
    figure = plots.misclassified(x, true, predicted, tmp_path / "e.png", limit=2)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["1 → 2", "0 → 1"]
    image = x[1, 0].astype(float)
    expected = 1 - (image - x.min()) / np.ptp(x.astype(float))
    np.testing.assert_allclose(shown[0].images[0].get_array(), expected)
    assert figure.get_suptitle() == "3 of 6 wrong (true → predicted)"
    assert is_png(tmp_path / "e.png")
    assert not [axes for axes in plots.misclassified(x, true, true).axes if axes.images]


def test_misclassified_in_colour_with_names():
    x = np.random.default_rng(0).random((2, 3, 4, 4))
    figure = plots.misclassified(x, np.array([0, 1]), np.array([1, 1]), class_names=["airplane", "ship"])
    assert figure.axes[0].get_title() == "airplane\n→ ship"
    assert figure.axes[0].images[0].get_array().shape == (4, 4, 3)


def test_schedule_is_drawn_step_by_step(tmp_path):
    figure = plots.schedule(schedules.exponential(0.1, 0.5), 4, tmp_path / "s.png", per="epoch")
    axes = figure.axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 0.1], [1, 0.05], [2, 0.025], [3, 0.0125]]
    assert axes.get_xlabel() == "epoch"
    assert plots.schedule(schedules.exponential(1, 0.1), 6).axes[0].get_yscale() == "log"
    cycles = plots.schedule(schedules.cyclical_triangular(1e-5, 0.1, 5), 20).axes[0]
    assert cycles.get_yscale() == "linear"


def test_trials_have_a_panel_for_each_setting_and_the_best_three_are_ringed(tmp_path):
    settings = {"l2": [1e-5, 1e-1, 1e-3, 1e-2], "loss": ["mse", "ce", "mse", "ce"], "hidden": [0, 1, 2, 3]}
    scores = [0.1, 0.4, 0.3, 0.2]
    figure = plots.trials(settings, scores, tmp_path / "t.png", title="search")
    assert [axes.get_xlabel() for axes in figure.axes] == ["l2", "loss", "hidden"]
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear"]
    tried, ringed = figure.axes[0].collections
    assert tried.get_offsets().tolist() == [[x, y] for x, y in zip(settings["l2"], scores, strict=True)]
    assert ringed.get_offsets().tolist() == [[1e-1, 0.4], [1e-3, 0.3], [1e-2, 0.2]]
    assert is_png(tmp_path / "t.png")


def test_importing_plots_leaves_matplotlib_alone_and_drawing_leaves_pyplot_alone():
    code = """
import sys
from fastnn import plots, schedules
assert "matplotlib" not in sys.modules
plots.schedule(schedules.constant(0.1), 3)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
