"""The experiments: each is the published network, learns on the real data, and leaves a complete record."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import data, experiments
from fastnn.training import History

ROOT = Path(experiments.__file__).parent


@pytest.fixture(scope="module")
def root(data_root):
    for name in ("mnist", "cifar10"):
        try:
            data.load(name, data_root)
        except data.DataNotFound as error:
            pytest.skip(str(error))
    return data_root


@pytest.mark.parametrize("name", experiments.NAMES)
def test_experiment_is_one_short_file_whose_variants_change_settings_it_has(name):
    experiment = experiments.get(name)
    assert experiment.name == name
    assert len((ROOT / f"{name.replace('-', '_')}.py").read_text().splitlines()) <= 60
    for variant, described in experiment.variants.items():
        settings = experiment.settings(variant)
        assert {"epochs", "batch_size", "lr"} <= set(settings)
        assert set(described.settings) <= set(inspect.signature(experiment.build).parameters)
        for field in fields(described.published):
            value = getattr(described.published, field.name)
            assert value is None or value > 0
            assert field.name == "seconds" or value is None or value <= 100


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown experiment 'x': choose one of mnist-mlp"):
        experiments.get("x")
    mlp = experiments.get("mnist-mlp")
    with pytest.raises(ValueError, match="no variant 'x': choose one of tuned"):
        mlp.settings("x")
    with pytest.raises(ValueError, match="no setting 'depth': it has epochs"):
        mlp.settings(depth=3)
    with pytest.raises(ValueError, match="unknown picture 'x'"):
        experiments.run("mnist-mlp", out=tmp_path, pictures=["x"])


def test_none_leaves_a_setting_as_it_is():
    mlp = experiments.get("mnist-mlp")
    assert mlp.settings("baseline", lr=None, epochs=3) == {**mlp.settings("baseline"), "epochs": 3}


@pytest.mark.parametrize(
    ("name", "sizes", "shape", "parameters"),
    [
        ("mnist-mlp", (50_000, 10_000, 10_000), (784,), 784 * 64 + 64 + 64 * 10 + 10),
        ("mnist-lenet", (50_000, 10_000, 10_000), (1, 28, 28), 156 + 2_416 + 30_840 + 10_164 + 850),
        ("cifar10-cnn", (45_000, 5_000, 10_000), (3, 32, 32), 896 + 18_496 + 36_928 + 65_600 + 650),
    ],
)
def test_network_and_data_are_the_published_ones(root, name, sizes, shape, parameters):
    setup = experiments.get(name).setup(data=root)
    parts = (setup.train, setup.validation, setup.test)
    assert tuple(len(x) for x, _ in parts) == sizes
    for x, y in parts:
        assert x.shape[1:] == shape
        assert x.dtype == np.float32
        assert len(x) == len(y)
    assert sum(p.data.size for p in setup.model.parameters()) == parameters
    with fastnn.use_backend("numpy"):
        assert setup.model.forward(setup.test[0][:3]).shape == (3, 10)


def test_lenet_reaches_97_per_cent_in_two_epochs_and_leaves_its_record(root, tmp_path):
    result = experiments.run(
        "mnist-lenet", out=tmp_path, data=root, epochs=2, progress=False, pictures=experiments.PICTURES
    )
    assert result["accuracy"]["test"] > 0.97
    assert result["accuracy"]["validation"] > 0.97
    assert result["diagnosis"] is None
    written = json.loads((tmp_path / "result.json").read_text())
    assert written == result
    for key in (
        "experiment",
        "variant",
        "settings",
        "seed",
        "seconds",
        "published",
        "versions",
        "machine",
        "backend",
    ):
        assert key in written
    assert written["published"]["test"] == 98.68
    history = History.load(tmp_path / "history.json")
    assert len(history) == 2
    assert len(history.step_loss) == 2 * 782
    assert history.epochs[-1]["accuracy"] == result["accuracy"]["train"]
    assert history.epochs[-1]["val_accuracy"] == result["accuracy"]["validation"]
    for name in ("curves", "confusion", "weights", "mistakes"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    setup = experiments.get("mnist-lenet").setup(data=root)
    setup.model.load(tmp_path / "weights.npz")
    logits = setup.model.forward(setup.test[0])
    assert fastnn.metrics.accuracy(logits, setup.test[1]) == pytest.approx(result["accuracy"]["test"])


def test_mlp_learns_2000_digits_as_published(root, tmp_path):
    """The whole published run: 98 % of its own digits and 88 % of the validation set, less 1.5 points."""
    result = experiments.run("mnist-mlp", "tuned-2000", out=tmp_path, data=root, progress=False)
    assert result["accuracy"]["train"] > 0.965
    assert result["accuracy"]["validation"] > 0.865


def test_same_seed_same_run_and_another_seed_another(root, tmp_path):
    def curve(seed):
        out = tmp_path / "run"
        experiments.run("mnist-lenet", "tuned-2000", out=out, data=root, seed=seed, epochs=1, progress=False)
        return History.load(out / "history.json").step_loss

    assert curve(1) == curve(1) != curve(2)


def test_cifar10_cnn_leaves_chance_within_its_first_steps(root):
    """A tenth of an epoch on a tenth of the data; the published 50 % takes ten epochs."""
    from fastnn.training import Trainer

    fastnn.seed(0)
    setup = experiments.get("cifar10-cnn").setup(data=root)
    x, y = setup.train
    trainer = Trainer(
        setup.model,
        setup.loss,
        setup.optimizer,
        schedule=setup.schedule,
        schedule_per=setup.schedule_per,
        progress=False,
    )
    trainer.fit(x[:7500], y[:7500], 2, setup.batch_size)
    assert trainer.evaluate(setup.test[0][:2000], setup.test[1][:2000])[1] > 0.15
