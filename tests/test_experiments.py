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
from fastnn.experiments import results
from fastnn.experiments.reproducing import reproduce
from fastnn.training import History, Trainer

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
    with pytest.raises(ValueError, match="unknown experiment 'x': choose one of cifar2-mlp"):
        experiments.get("x")
    mlp = experiments.get("mnist-mlp")
    with pytest.raises(ValueError, match="no variant 'x': choose one of tuned"):
        mlp.settings("x")
    with pytest.raises(ValueError, match="no setting 'depth': it has epochs"):
        mlp.settings(depth=3)
    with pytest.raises(ValueError, match="unknown picture 'x'"):
        experiments.run("mnist-mlp", out=tmp_path, pictures=["x"])


def test_text_becomes_a_value_of_the_setting_s_type():
    mlp, mse, cnn = (experiments.get(name) for name in ("mnist-mlp", "cifar10-mse", "cifar10-cnn"))
    assert mlp.parse("hidden", "20") == 20
    assert mlp.parse("lr", "1e-3") == 0.001
    assert mse.parse("loss", "ce") == "ce"
    assert cnn.parse("activation", "true") is True
    assert cnn.parse("activation", "false") is False
    for experiment, name, text in ((mlp, "hidden", "2.5"), (mlp, "lr", "x"), (cnn, "activation", "1")):
        with pytest.raises(ValueError, match=f"{name} of {experiment.name} is .*, not '{text}'"):
            experiment.parse(name, text)
    with pytest.raises(ValueError, match="no setting 'depth'"):
        mlp.parse("depth", "3")


def test_none_leaves_a_setting_as_it_is():
    mlp = experiments.get("mnist-mlp")
    assert mlp.settings("baseline", lr=None, epochs=3) == {**mlp.settings("baseline"), "epochs": 3}


@pytest.mark.parametrize(
    ("name", "sizes", "shape", "parameters", "rates"),
    [
        ("cifar2-mlp", (10_000, 2_000, 2_000), (3072,), [307_300, 101], {}),
        ("cifar10-clr", (10_000, 10_000, 10_000), (3072,), [153_650, 510], {250: 0.050005, 1000: 1e-5}),
        ("cifar10-mse", (49_000, 1_000, 1_000), (3072,), [153_650, 510], {244: 9e-4, 490: 9e-4 * 0.94**2}),
        ("cifar10-linear", (45_000, 5_000, 10_000), (3072,), [30_730], {100: 0.017 * 0.999**100}),
        ("cifar10-sigmoid", (45_000, 5_000, 10_000), (3072,), [614_600, 2_010], {2: 0.001 * 0.95**2}),
        ("mnist-mlp", (50_000, 10_000, 10_000), (784,), [50_240, 650], {3: 0.01 * 0.97**3}),
        ("mnist-lenet", (50_000, 10_000, 10_000), (1, 28, 28), [156, 2_416, 30_840, 10_164, 850], {}),
        (
            *("cifar10-cnn", (45_000, 5_000, 10_000), (3, 32, 32)),
            *([896, 18_496, 36_928, 65_600, 650], {1000: 0.0075}),
        ),
    ],
)
def test_network_data_and_rates_are_the_published_ones(root, name, sizes, shape, parameters, rates):
    setup = experiments.get(name).setup(data=root)
    parts = (setup.train, setup.validation, setup.test)
    assert tuple(len(x) for x, _ in parts) == sizes
    for x, y in parts:
        assert x.shape[1:] == shape
        assert x.dtype == np.float32
        assert len(x) == len(y)
    counts = [sum(p.data.size for p in layer.parameters()) for layer in setup.model]
    assert [count for count in counts if count] == parameters
    with fastnn.use_backend("numpy"):
        outputs = 1 if name == "cifar2-mlp" else 10
        assert setup.model.forward(setup.test[0][:3]).shape == (3, outputs)
    for time, rate in rates.items():
        assert setup.schedule(time) == pytest.approx(rate, rel=1e-9)
    assert setup.optimizer.lr == experiments.get(name).settings()["lr"]


def test_cnn_s_convolutions_have_a_sigmoid_if_asked(root):
    model = experiments.get("cifar10-cnn").setup(data=root, activation=True).model
    assert sum(isinstance(layer, fastnn.Sigmoid) for layer in model) == 4


def test_mse_starts_from_the_published_loss(root):
    """1/(2N) Σ (pred − onehot)² is 1/2 for predictions near 0, and the penalty makes it 0.50006 to 0.5001."""
    fastnn.seed(0)
    setup = experiments.get("cifar10-mse").setup(data=root)
    trainer = Trainer(setup.model, setup.loss, setup.optimizer, l2=setup.l2, progress=False)
    start = trainer.evaluate(*setup.train)[0]
    assert start == pytest.approx(0.50006, abs=1e-4)
    assert f"{start:.4f}" == "0.5001"
    weights = [p.data for p in setup.model.parameters() if p.data.ndim == 2]
    penalty = 0.1 / 2 * sum(float((w.astype(np.float64) ** 2).sum()) for w in weights)
    pred, onehot = setup.model.forward(setup.train[0][:1000]), setup.train[1][:1000]
    by_hand = float(((pred - onehot) ** 2).sum()) / 2000 + penalty
    assert trainer.evaluate(setup.train[0][:1000], onehot)[0] == pytest.approx(by_hand, abs=1e-6)


# One of each, scaled down: the validation accuracy that it must reach, and to which share of its first value
# the loss must fall. Published are 82, 48, 52, 40, 48 and 44 %, after many more steps.
@pytest.mark.parametrize(
    ("name", "variant", "epochs", "accuracy", "loss"),
    [
        ("cifar2-mlp", "published", 3, 0.68, 0.85),
        ("cifar10-clr", "a", 6, 0.4, 0.8),
        ("cifar10-mse", "best", 3, 0.38, 0.85),
        ("cifar10-linear", "published", 8, 0.32, 0.93),
        ("cifar10-sigmoid", "sgd", 1, 0.3, 0.95),
        ("cifar10-sigmoid", "full-batch", 5, 0.25, 0.95),
    ],
)
def test_scaled_down_experiment_learns(root, tmp_path, name, variant, epochs, accuracy, loss):
    result = experiments.run(name, variant, out=tmp_path, data=root, epochs=epochs, progress=False)
    history = History.load(tmp_path / "history.json")
    steps = history.step_loss
    last = np.mean(steps[-max(1, len(steps) // 10) :])
    assert last < loss * steps[0]
    assert max(history.column("val_accuracy")) > accuracy
    assert result["diagnosis"] is None
    assert result["steps"] == len(steps) == epochs * history.epochs[0]["steps"]


def test_diverging_run_finishes_at_chance_and_names_the_learning_rate(root, tmp_path):
    result = experiments.run("cifar2-mlp", "diverging", out=tmp_path, data=root, epochs=3, progress=False)
    assert result["epochs"] == 3
    assert result["accuracy"]["test"] == pytest.approx(0.5, abs=0.01)
    assert "learning rate (0.01) is likely too high" in result["diagnosis"]
    assert "\n" not in result["diagnosis"]
    assert len(History.load(tmp_path / "history.json").step_loss) == 3 * 157


def test_medians_of_finished_runs_are_set_beside_the_published_figures(tmp_path):
    settings = experiments.get("mnist-mlp").settings("tuned")

    def leave(folder, test, seed, finished="2026-01-01", interrupted=False, seconds=8.0, **changed):
        result = {
            "experiment": "mnist-mlp",
            "variant": "tuned",
            "settings": settings | changed,
            "seed": seed,
            "accuracy": {"test": test, "validation": 0.95, "train": 0.98},
            "loss": {"train": 0.1},
            "seconds": seconds,
            "interrupted": interrupted,
            "finished": finished,
        }
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "result.json").write_text(json.dumps(result))

    def row():
        return next(
            row for row in results.rows(tmp_path) if (row.name, row.variant) == ("mnist-mlp", "tuned")
        )

    assert row().runs == []
    assert row().reproduced is None
    leave("scaled", 0.99, 0, epochs=2)
    assert (row().full, row().reproduced, row().epochs, row().of) == (False, None, 2, 70)
    assert "2 of 70 epochs" in row().cells()
    leave("other settings", 0.99, 0, lr=0.5)
    leave("interrupted", 0.99, 0, interrupted=True)
    assert not row().full
    leave("a", 0.10, 0)
    leave("again", 0.937, 0, finished="2026-01-02")  # the later run of a seed counts
    leave("b", 0.9379, 1, seconds=8.5)
    leave("c", 0.9378, 2, seconds=16.0)
    assert [run["seed"] for run in row().runs] == [0, 1, 2]
    assert row().here.test == pytest.approx(93.78)  # 95.28 less 1.5
    assert row().reproduced is True
    assert "11.0x" in row().cells()
    assert results.together([row(), *results.rows(tmp_path / "elsewhere")]) == (8.0, 87.94)
    leave("worse", 0.9377, 2, finished="2026-01-02")
    assert row().reproduced is False


@pytest.mark.parametrize(
    "content", ["", '{"experiment": "mnist-mlp"', '{"experiment": "mnist-mlp"}', "[1]", "\xff", "[" * 100_000]
)
def test_a_damaged_record_of_a_run_is_named(content, tmp_path):
    path = tmp_path / "mnist-mlp" / "tuned" / "seed-0" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    for read in (results.rows, lambda folder: reproduce(["mnist-mlp/tuned"], out=folder)):
        with pytest.raises(ValueError, match=r"result\.json is not the record of a run"):
            read(tmp_path)


def test_lenet_reaches_96_per_cent_in_one_epoch_and_leaves_its_record(root, tmp_path):
    result = experiments.run(
        "mnist-lenet", out=tmp_path, data=root, epochs=1, progress=False, pictures=experiments.PICTURES
    )
    assert result["accuracy"]["test"] > 0.96
    assert result["accuracy"]["validation"] > 0.96
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
    assert len(history) == 1
    assert len(history.step_loss) == 782
    assert (
        result["accuracy"]["train"] > history.epochs[-1]["accuracy"] > 0.8
    )  # in training, dropout costs some
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
