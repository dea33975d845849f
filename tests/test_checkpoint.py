"""A run stopped anywhere, any way, goes on from its checkpoint to the same weights."""

from __future__ import annotations

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
from fastnn import Linear, Sequential
from fastnn.optim import SGD, Adam
from fastnn.training import CheckpointError, checkpoint
from tests.blobs import BATCH, blobs, network, trainer, weights


@pytest.fixture(autouse=True, params=["numpy", "numba"])
def backend(request):
    with fastnn.use_backend(request.param):
        yield request.param


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
from tests.blobs import blobs, network, trainer
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
    delays = np.random.default_rng(0).uniform(0, 0.25, 4)
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
