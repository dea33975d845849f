"""The Trainer: what it records, and that a run stopped anywhere, any way, goes on to the same weights."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import Dropout, Linear, ReLU, Sequential, Sigmoid, metrics, schedules
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.optim import SGD, Adam
from fastnn.training import CheckpointError, History, Trainer, checkpoint
from fastnn.training.feed import Rows

EXAMPLES, BATCH = 90, 16  # five full batches and one of ten


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def backend(request):
    with fastnn.use_backend(request.param):
        yield request.param


def blobs(examples=EXAMPLES, classes=3, seed=0):
    """Classes that a small network tells apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, examples)
    centres = np.random.default_rng(1).normal(0, 2, (classes, 8))
    return (centres[y] + rng.normal(0, 1, (examples, 8))).astype(np.float32), y


def network(seed=3, dropout=True):
    fastnn.seed(seed)
    return Sequential(Linear(8, 12), ReLU(), *([Dropout(0.3)] if dropout else []), Linear(12, 3))


def trainer(model=None, loss=None, optimizer=None, **options):
    model = network() if model is None else model
    optimizer = SGD(model.parameters(), 0.05, momentum=0.9) if optimizer is None else optimizer
    return Trainer(model, loss or SoftmaxCrossEntropy(), optimizer, **{"progress": False, **options})


def weights(model):
    return {name: array.tobytes() for name, array in model.state_dict().items()}


class Interrupting:
    """A loss that sends Ctrl-C to its own process, `times` times, at its call number `at`."""

    reduction = "mean"

    def __init__(self, at, times=1):
        self.left, self.times = at, times

    def __call__(self, output, targets):
        self.left -= 1
        if self.left == 0:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return F.softmax_cross_entropy(output, targets)


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


@pytest.mark.parametrize("optimizer", [SGD, Adam])
# Within the first epoch, at its end, within the second: between them the loss is called for validation.
@pytest.mark.parametrize(("call", "steps"), [(4, 4), (6, 6), (9, 8)])
def test_ctrl_c_ends_after_the_step_and_a_resumed_run_is_bit_identical(tmp_path, optimizer, call, steps):
    x, y = blobs()
    validation = blobs(20, seed=5)

    def make(loss, path=None):
        model = network()
        kind = {"momentum": 0.9} if optimizer is SGD else {}
        t = trainer(
            model, loss, optimizer(model.parameters(), 0.02, **kind), checkpoint=path, restore_best=True
        )
        return model, t

    straight_model, straight = make(F.softmax_cross_entropy)
    expected = straight.fit(x, y, 4, BATCH, validation)

    path = tmp_path / "run.npz"
    _, t = make(Interrupting(call), path)
    stopped = t.fit(x, y, 4, BATCH, validation)
    assert stopped.interrupted
    assert stopped.step_loss == expected.step_loss[:steps]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    model, t = make(F.softmax_cross_entropy, path)
    fastnn.seed(12345)  # whatever happened in between
    history = t.fit(x, y, 4, BATCH, validation, resume=True)
    assert not history.interrupted
    assert weights(model) == weights(straight_model)
    assert history.step_loss == expected.step_loss
    same = ("loss", "accuracy", "val_loss", "val_accuracy", "lr", "steps")
    assert [[r[k] for k in same] for r in history.epochs] == [[r[k] for k in same] for r in expected.epochs]


def test_second_ctrl_c_does_not_wait_and_the_last_checkpoint_stays(tmp_path):
    x, y = blobs()
    path = tmp_path / "run.npz"
    model = network()
    t = trainer(model, Interrupting(9, times=2), checkpoint=path)
    history = t.fit(x, y, 4, BATCH)
    assert history.interrupted
    assert len(history) == 1
    assert len(history.step_loss) == 8
    straight = network()
    trainer(straight, F.softmax_cross_entropy).fit(x, y, 4, BATCH)
    resumed = network()
    trainer(resumed, F.softmax_cross_entropy, checkpoint=path).fit(x, y, 4, BATCH, resume=True)
    assert weights(resumed) == weights(straight)


def test_resume_of_a_finished_run_trains_no_more_and_of_a_longer_one_goes_on(tmp_path):
    x, y = blobs()
    path = tmp_path / "run.npz"
    trainer(checkpoint=path).fit(x, y, 2, BATCH)
    model = network()
    history = trainer(model, checkpoint=path).fit(x, y, 2, BATCH, resume=True)
    assert len(history) == 2
    straight = network()
    trainer(straight).fit(x, y, 3, BATCH)
    trainer(model, checkpoint=path).fit(x, y, 3, BATCH, resume=True)
    assert weights(model) == weights(straight)


SCRIPT = """
import sys, numpy as np, fastnn
sys.path.insert(0, sys.argv[3])
from tests.test_training import blobs, network, trainer
with fastnn.use_backend(sys.argv[2]):
    x, y = blobs()
    trainer(network()).fit(x, y, 1, 16, validation=(x, y))  # compiles
    model = network()
    print("training", flush=True)
    t = trainer(model, checkpoint=sys.argv[1])
    history = t.fit(np.tile(x, (8, 1)), np.tile(y, 8), 60, 16, resume=True)
    model.save(sys.argv[1] + ".weights.npz")
"""


def test_run_killed_at_any_instant_resumes_to_the_same_weights(tmp_path, backend):
    root = str(Path(__file__).resolve().parents[1])

    def start(path):
        command = [sys.executable, "-c", SCRIPT, str(path), backend, root]
        return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True)

    whole = start(tmp_path / "whole.npz")
    assert whole.wait(120) == 0
    delays = np.random.default_rng(0).uniform(0, 0.25, 6)
    path = tmp_path / "killed.npz"
    kills = 0
    for delay in delays:
        process = start(path)
        assert process.stdout.readline() == "training\n"
        time.sleep(delay)
        process.kill()
        kills += process.wait(60) != 0
    assert kills >= 2, "the runs ended before they could be killed: make them longer"
    assert path.exists()
    assert start(path).wait(120) == 0
    with np.load(f"{path}.weights.npz") as killed, np.load(f"{tmp_path}/whole.npz.weights.npz") as straight:
        assert set(killed) == set(straight)
        for name in straight:
            assert killed[name].tobytes() == straight[name].tobytes()


def test_failed_write_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    checkpoint.save(path, {"a": np.arange(3)})

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"a": np.arange(4)})
    assert checkpoint.load(path)["a"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_keeps_a_tree_exactly(tmp_path):
    state = {
        "big": 2**127 + 1,
        "list": [1, None, {"x": np.float32([math.nan, math.inf, -0.0])}],
        "text": "ü",
        "third": 1 / 3,
        "empty": np.empty((0, 3)),
    }
    checkpoint.save(tmp_path / "s.npz", state)
    back = checkpoint.load(tmp_path / "s.npz")
    assert back["big"] == state["big"]
    assert back["third"] == state["third"]
    assert back["text"] == "ü"
    assert back["empty"].shape == (0, 3)
    assert back["list"][:2] == [1, None]
    assert back["list"][2]["x"].tobytes() == state["list"][2]["x"].tobytes()


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_foreign_or_damaged_checkpoint_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = blobs()
    good = tmp_path / "good.npz"
    trainer(checkpoint=good).fit(x, y, 1, BATCH)
    data = good.read_bytes()
    bad = tmp_path / "bad.npz"
    np.savez(tmp_path / "weights.npz", a=np.arange(3))
    np.savez(tmp_path / "pickled.npz", __array__=np.array([Bomb()], object))
    np.save(tmp_path / "array.npy", np.arange(3))
    contents = [
        b"",
        data[:1000],
        data[: len(data) // 2],
        data[:-30],
        b"x" * 500,
        pickle.dumps(Bomb()),
        (tmp_path / "weights.npz").read_bytes(),
        (tmp_path / "pickled.npz").read_bytes(),
        (tmp_path / "array.npy").read_bytes(),
    ]
    for content in contents:
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.npz"):
            trainer(checkpoint=bad).fit(x, y, 2, BATCH, resume=True)
    assert not (tmp_path / "exploded").exists()


def test_checkpoint_of_another_run_is_refused(tmp_path):
    x, y = blobs()
    path = tmp_path / "run.npz"
    trainer(checkpoint=path).fit(x, y, 1, BATCH)
    with pytest.raises(CheckpointError, match="batch_size 16, not 15"):
        trainer(checkpoint=path).fit(x, y, 2, 15, resume=True)
    with pytest.raises(CheckpointError, match="examples 90, not 80"):
        trainer(checkpoint=path).fit(x[:80], y[:80], 2, BATCH, resume=True)
    with pytest.raises(CheckpointError, match="another model"):
        trainer(Sequential(Linear(8, 3)), checkpoint=path).fit(x, y, 2, BATCH, resume=True)
    model = network()
    with pytest.raises(CheckpointError, match="another model or optimiser"):
        trainer(model, optimizer=Adam(model.parameters()), checkpoint=path).fit(x, y, 2, BATCH, resume=True)


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path):
    x, y = blobs()
    first = network()
    trainer(first).fit(x, y, 1, BATCH)
    second = network()
    trainer(second, checkpoint=tmp_path / "none.npz").fit(x, y, 1, BATCH, resume=True)
    assert weights(first) == weights(second)
    with pytest.raises(ValueError, match="checkpoint path"):
        trainer().fit(x, y, 1, BATCH, resume=True)


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
