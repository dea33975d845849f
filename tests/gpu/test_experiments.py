"""The experiments on the GPU: what ``fastnn train NAME --backend cupy`` does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import experiments, losses, optim
from fastnn.data import Dataset
from fastnn.experiments import running
from fastnn.experiments.base import Experiment, Published, Setup, Variant

pytestmark = pytest.mark.gpu
PICTURES = ("confusion", "weights", "mistakes") if importlib.util.find_spec("matplotlib") else ()
FOLDERS = {"mnist-mlp": "MNIST", "mnist-lenet": "MNIST", "cifar10-cnn": "cifar-10-batches-py"}


def small(root: Any, *, epochs: int = 2) -> Setup:
    """Images of 8 x 8 with a bright half, left or right."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    x = rng.random((60, 1, 8, 8), np.float32) + (np.arange(8) // 4 == y[:, None, None, None])
    pixels = (80 * x).astype(np.uint8)
    net = fastnn.Sequential(
        *(fastnn.Conv2d(1, 3, 3), fastnn.ReLU(), fastnn.MaxPool2d(2), fastnn.Flatten(), fastnn.Linear(27, 2))
    )
    return Setup(
        train=(x[:40], y[:40]),
        validation=(x[40:50], y[40:50]),
        test=(x[50:], y[50:]),
        model=net,
        loss=losses.SoftmaxCrossEntropy(),
        optimizer=optim.SGD(net.parameters(), 0.1, momentum=0.9),
        epochs=epochs,
        batch_size=8,
        dataset=Dataset("halves", pixels[:50], y[:50], pixels[50:], y[50:], ("left", "right")),
    )


def test_an_experiment_leaves_its_results_and_pictures(tmp_path: Path, monkeypatch: Any) -> None:
    experiment = Experiment("small", small, {"only": Variant(Published())})
    monkeypatch.setattr(running, "get", lambda name: experiment)
    result = experiments.run("small", out=tmp_path, progress=False, pictures=PICTURES, epochs=5)
    assert result["backend"] == "cupy"
    assert result["accuracy"]["test"] > 0.8
    assert json.loads((tmp_path / "result.json").read_text())["accuracy"] == result["accuracy"]
    for name in ("history.json", "weights.npz", *(f"{picture}.png" for picture in PICTURES)):
        assert (tmp_path / name).exists(), name


@pytest.mark.large
@pytest.mark.parametrize(("name", "least"), [("mnist-mlp", 0.8), ("mnist-lenet", 0.9), ("cifar10-cnn", 0.2)])
def test_an_epoch_of_a_published_network_learns(
    name: str, least: float, tmp_path: Path, data_root: Path
) -> None:
    if not (data_root / FOLDERS[name]).is_dir():
        pytest.skip(f"{FOLDERS[name]} is not in {data_root}")
    result = experiments.run(name, out=tmp_path, data=data_root, progress=False, epochs=1)
    assert result["accuracy"]["test"] >= least
