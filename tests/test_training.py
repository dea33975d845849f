"""The Trainer: what it does with an epoch, what it records, what it says."""

from __future__ import annotations

import json
import math
import sys
import time

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import Linear, Sequential, Sigmoid, metrics, schedules
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD
from fastnn.training import History, Trainer
from fastnn.training.feed import Rows
from tests.blobs import BATCH, EXAMPLES, blobs, network, trainer, weights


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def backend(request):
    with fastnn.use_backend(request.param):
        yield request.param


def test_fit_learns_and_records_every_step_and_epoch():
    x, y = blobs()
    history = trainer(network(dropout=False), train_accuracy="full").fit(
        x, y, 8, BATCH, validation=blobs(60, seed=5)
    )
    assert len(history.step_loss) == 8 * 6
    assert history.column("epoch") == list(range(1, 9))
    assert history.column("steps") == list(range(6, 54, 6))
    first, last = history.epochs[0], history.epochs[-1]
    assert last["loss"] < 0.5 * history.step_loss[0]
    assert last["accuracy"] > 0.9
    assert last["val_accuracy"] > 0.85
    assert last["val_loss"] < first["val_loss"]
    assert history.best_epoch == 1 + int(np.argmin(history.column("val_loss")))
    assert not history.interrupted
    assert not history.stopped_early
    assert history.diagnosis is None
    assert all(record["seconds"] > 0 and record["examples_per_second"] > 0 for record in history.epochs)


def test_same_seed_same_loss_curve_and_another_seed_another():
    x, y = blobs()
    curves = [trainer(network(seed)).fit(x, y, 3, BATCH).step_loss for seed in (3, 3, 4)]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_step_is_the_public_one():
    x, y = blobs()
    by_trainer, by_hand = network(), network()
    fastnn.seed(9)
    trainer(by_trainer).fit(x, y, 2, BATCH, shuffle=False)
    fastnn.seed(9)
    optimizer = SGD(by_hand.parameters(), 0.05, momentum=0.9)
    for _ in range(2):
        for i in range(0, EXAMPLES, BATCH):
            output = by_hand.forward(x[i : i + BATCH], training=True)
            _, grad = F.softmax_cross_entropy(output, y[i : i + BATCH])
            by_hand.backward(grad, input_grad=False)
            optimizer.step()
    assert weights(by_trainer) == weights(by_hand)


def test_every_epoch_visits_every_example_once_in_its_own_order():
    x = np.arange(EXAMPLES, dtype=np.float32)[:, None]
    y = np.zeros(EXAMPLES, np.int64)
    seen = []

    class Recorder(Linear):
        def forward(self, x, training=False):
            if training:
                seen.append(x[:, 0].copy())
            return super().forward(x, training)

    trainer(Recorder(1, 3), train_accuracy="full").fit(x, y, 2, BATCH)
    assert [len(batch) for batch in seen] == [16, 16, 16, 16, 16, 10] * 2
    first, second = np.concatenate(seen[:6]), np.concatenate(seen[6:])
    assert sorted(first) == sorted(second) == x[:, 0].tolist()
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.sort(first))


def test_rows_keep_the_memory_order_of_images():
    images = np.arange(5 * 3 * 4 * 4, dtype=np.float32).reshape(5, 3, 4, 4)
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    order = np.array([3, 0, 4])
    for array in (images, last, images[:, :, ::-1]):
        rows = Rows(fastnn.get_backend(), array)
        batch = rows.take(order)
        assert np.array_equal(batch, array[order])
        assert np.array_equal(rows.slice(1, 3), array[1:3])
        assert batch.transpose(0, 2, 3, 1).flags.c_contiguous == (array is last)
        assert np.shares_memory(rows.take(order[:2]), batch)  # the buffer is used again


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_and_accuracy_are_means_over_examples_also_with_a_smaller_last_batch(reduction):
    x, y = blobs()
    model = network(dropout=False)
    still = SGD(model.parameters(), 0.0)  # nothing moves, so running and measured figures agree
    expected_loss, _ = F.softmax_cross_entropy(model.forward(x), y)
    expected_accuracy = metrics.accuracy(model.forward(x), y)
    for mode in ("running", "full"):
        t = trainer(model, SoftmaxCrossEntropy(reduction), still, train_accuracy=mode)
        record = t.fit(x, y, 1, BATCH, validation=(x, y)).epochs[0]
        assert record["loss"] == pytest.approx(expected_loss, rel=1e-5)
        assert record["val_loss"] == pytest.approx(expected_loss, rel=1e-5)
        assert record["accuracy"] == record["val_accuracy"] == expected_accuracy


def test_l2_is_weight_decay_of_the_weights_and_is_in_the_loss():
    x, y = blobs()
    penalised, decayed = network(dropout=False), network(dropout=False)
    factor = 0.01
    squares = sum(float((p.data**2).sum()) for p in penalised.parameters() if p.data.ndim == 2)
    bare, _ = F.softmax_cross_entropy(penalised.forward(x[:BATCH]), y[:BATCH])
    t = trainer(penalised, l2=factor)
    history = t.fit(x, y, 2, BATCH, shuffle=False)
    assert history.step_loss[0] == pytest.approx(bare + factor * squares, rel=1e-5)

    parameters = decayed.parameters()
    groups = [
        {"params": [p for p in parameters if p.data.ndim == 2], "weight_decay": 2 * factor},
        {"params": [p for p in parameters if p.data.ndim == 1]},
    ]
    trainer(decayed, optimizer=SGD(groups, 0.05, momentum=0.9)).fit(x, y, 2, BATCH, shuffle=False)
    for name, array in penalised.state_dict().items():
        np.testing.assert_allclose(array, decayed.state_dict()[name], rtol=1e-4, atol=1e-6)
    loss, _ = F.softmax_cross_entropy(penalised.forward(x), y)
    squares = sum(float((p.data**2).sum()) for p in penalised.parameters() if p.data.ndim == 2)
    assert t.evaluate(x, y)[0] == pytest.approx(loss + factor * squares, rel=1e-5)


def test_schedule_sets_the_rate_per_epoch_or_per_step():
    x, y = blobs()
    assert trainer(schedule=schedules.step(0.1, 0.5, 1)).fit(x, y, 3, BATCH).column("lr") == [
        0.1,
        0.05,
        0.025,
    ]
    per_step = trainer(schedule=lambda t: 0.1 / (1 + t), schedule_per="step").fit(x, y, 2, BATCH)
    assert per_step.column("lr") == [0.1 / 6, 0.1 / 12]


def test_early_stop_waits_and_best_weights_come_back():
    x, y = blobs(30)
    # A rate that grows makes the validation loss fall, then rise for good.
    model = network(dropout=False)
    t = trainer(model, schedule=lambda t: 0.02 * 1.6**t, early_stop=3, restore_best=True)
    validation = blobs(200, seed=7)
    history = t.fit(x, y, 100, BATCH, validation=validation)
    assert history.stopped_early
    assert not history.interrupted
    assert len(history) == history.best_epoch + 3
    best = history.epochs[history.best_epoch - 1]
    assert t.evaluate(*validation) == pytest.approx((best["val_loss"], best["val_accuracy"]), rel=1e-6)


def test_nan_ends_the_run_with_a_reason_and_the_history(tmp_path):
    x, y = blobs()
    model = network(dropout=False)
    path = tmp_path / "run.npz"
    targets = np.eye(3, dtype=np.float32)[y]
    with np.errstate(all="ignore"):
        t = trainer(model, F.mse, SGD(model.parameters(), 1e6), checkpoint=path)
        history = t.fit(x, targets, 5, BATCH)
    assert not math.isfinite(history.step_loss[-1])
    assert len(history.step_loss) < 30
    assert "\n" not in history.diagnosis
    assert "learning rate (1e+06) is likely too high" in history.diagnosis
    assert not history.interrupted
    x[40] = math.nan
    history = trainer().fit(x, y, 2, BATCH)
    assert "inputs already hold NaN" in history.diagnosis


@pytest.mark.parametrize(("lr", "cause"), [(0.0, "too low"), (300.0, "too high")])
def test_a_run_stuck_at_chance_finishes_and_says_so(lr, cause, capsys):
    x, y = blobs(300, classes=2)
    y = np.arange(300) % 2  # and labels that cannot be learnt
    model = Sequential(Linear(8, 4), Sigmoid(), Linear(4, 2))
    x[:] = np.random.default_rng(0).normal(size=x.shape)
    history = trainer(model, optimizer=SGD(model.parameters(), lr), progress=True).fit(x, y, 3, BATCH)
    assert len(history) == 3
    assert "chance" in history.diagnosis
    assert cause in history.diagnosis
    assert capsys.readouterr().out.splitlines()[-1] == history.diagnosis


def test_progress_prints_a_line_an_epoch_and_nothing_when_silent(capsys):
    x, y = blobs()
    trainer(progress=True).fit(x, y, 2, BATCH, validation=(x, y))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(word in lines[0] for word in ("loss", "acc", "val loss", "val acc", "lr", "examples/s"))
    trainer().fit(x, y, 2, BATCH)
    assert capsys.readouterr().out == ""
    records = []
    history = trainer(progress=records.append).fit(x, y, 2, BATCH)
    assert records == history.epochs
    assert capsys.readouterr().out == ""


def test_bar_shows_loss_and_speed_inside_the_epoch(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("fastnn.training.progress._INTERVAL", 0.0)
    x, y = blobs()
    trainer(progress=True).fit(x, y, 1, BATCH)
    shown = capsys.readouterr().err
    assert "epoch 1/1" in shown
    assert "loss " in shown
    assert "examples/s" in shown


def test_bad_arguments_are_named():
    x, y = blobs()
    with pytest.raises(ValueError, match="90 examples and y has 89"):
        trainer().fit(x, y[:-1], 1, BATCH)
    with pytest.raises(ValueError, match="no examples"):
        trainer().fit(x[:0], y[:0], 1, BATCH)
    with pytest.raises(ValueError, match="batch_size"):
        trainer().fit(x, y, 1, 0)
    with pytest.raises(TypeError, match=r"astype\(np.float32\)"):
        trainer().fit((x * 10).astype(np.uint8), y, 1, BATCH)
    with pytest.raises(ValueError, match="schedule_per"):
        trainer(schedule_per="week")
    with pytest.raises(TypeError, match="loss must"):
        trainer(loss=3)


def test_history_comes_back_from_its_file(tmp_path):
    x, y = blobs()
    history = trainer().fit(x, y, 2, BATCH, validation=(x, y))
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    history.step_loss.append(math.nan)
    history.save(tmp_path / "history.json")
    json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail)  # strict JSON
    assert math.isnan(History.load(tmp_path / "history.json").step_loss[-1])
    (tmp_path / "history.json").write_text('{"step_loss": 3}')
    with pytest.raises(ValueError, match=r"history.json is not a training history"):
        History.load(tmp_path / "history.json")


def test_trainer_adds_less_than_10_microseconds_to_a_step_of_a_loop_by_hand(backend):
    examples, batch = 25_600, 64

    class Nothing:
        lr = 0.1
        output = np.zeros((batch, 10), np.float32)

        def forward(self, x, training=False):
            return self.output[: len(x)]

        def backward(self, grad, input_grad=True):
            pass

        def step(self):
            pass

        def parameters(self):
            return []

    def loss(output, targets):
        return 1.0, None

    def by_hand():  # what a Trainer does for its user: shuffled batches, the loss and accuracy of each
        order, losses, right = np.random.default_rng(0).permutation(examples), [], 0
        for start in range(0, examples, batch):
            rows = order[start : start + batch]
            inputs, targets = x[rows], y[rows]
            output = model.forward(inputs, training=True)
            value, grad = loss(output, targets)
            losses.append(value)
            right += np.count_nonzero(output.argmax(axis=1) == targets)
            model.backward(grad)
            model.step()

    def step_of(call):
        start = time.process_time()  # not wall time: a busy machine stretches that
        call()
        return (time.process_time() - start) / (examples / batch)

    x, y, model = np.zeros((examples, 1), np.float32), np.zeros(examples, np.int64), Nothing()
    t = Trainer(model, loss, model, progress=False)
    added = [step_of(lambda: t.fit(x, y, 1, batch)) - step_of(by_hand) for _ in range(5)]
    assert min(added) < 10e-6, added
