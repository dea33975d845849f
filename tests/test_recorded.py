"""Recorded training steps against ordinary ones, bit for bit, on a GPU that is only pretended.

What can be seen without a GPU: that a replay finds all it needs on the device, and that the host takes part
in nothing between two steps. That CUDA itself records these launches, ``tests/gpu`` shows.
"""

from __future__ import annotations

import gc
import signal
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import backend, layers, losses, metrics, optim, schedules
from fastnn.kernels.cuda._recording import Recording
from fastnn.training import Trainer, recorded
from tests import pretended, test_cuda_product

EXAMPLES, BATCH, CLASSES = 53, 8, 3  # six whole batches and one of five
WHOLE = EXAMPLES // BATCH
fresh_plans = test_cuda_product.fresh_plans
pytestmark = pytest.mark.skipif(pretended.WHY_NOT is not None, reason=str(pretended.WHY_NOT))


@pytest.fixture(scope="module", autouse=True)
def gpu(built: Path) -> Iterator[Any]:
    with pretended.pretended(built) as toolkit, fastnn.use_backend("cupy"):
        yield toolkit


def mlp(*between: Any) -> fastnn.Sequential:
    return fastnn.Sequential(layers.Linear(6, 7), layers.ReLU(), *between, layers.Linear(7, CLASSES))


def cnn() -> fastnn.Sequential:
    return fastnn.Sequential(
        *(layers.Conv2d(2, 4, 3, padding=1), layers.BatchNorm2d(4), layers.Tanh(), layers.AvgPool2d(2)),
        *(layers.Conv2d(4, 3, 2, padding="same"), layers.MaxPool2d(2), layers.LeakyReLU()),
        *(layers.Flatten(), layers.Dropout(0.4), layers.Linear(3, CLASSES)),
    )


def sgd(p: Any) -> Any:
    return optim.SGD(p, 0.05)


class Case(NamedTuple):
    """What to train; what is not said is as in most cases."""

    model: Callable[[], Any] = mlp
    optimizer: Callable[[Any], Any] = sgd
    loss: Any = losses.SoftmaxCrossEntropy()
    shape: tuple[int, ...] = (6,)
    channels_last: bool = False
    targets: str = "labels"
    batch: int = BATCH
    dtype: Any = np.float32
    fit: dict[str, Any] = {}  # noqa: RUF012 - read only
    options: dict[str, Any] = {}  # noqa: RUF012 - read only

    def data(self) -> tuple[Any, Any]:
        rng = np.random.default_rng(1)
        x = rng.standard_normal((EXAMPLES, *self.shape)).astype(self.dtype)
        if self.channels_last:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        y = rng.integers(0, CLASSES, EXAMPLES)
        if self.targets == "labels":
            return x, y
        if self.targets == "one-hot":
            return x, np.eye(CLASSES, dtype=self.dtype)[y]
        return x, y.astype(self.targets)


def momentum(p: Any) -> Any:
    return optim.SGD(p, 0.05, momentum=0.9, dampening=0.1, weight_decay=1e-3)


def nesterov(p: Any) -> Any:
    bias = [one for one in p if one.data.ndim == 1]
    rest = {"params": [one for one in p if one.data.ndim > 1], "weight_decay": 1e-2}
    return optim.SGD([rest, {"params": bias, "lr": 0.1}], 0.05, momentum=0.9, nesterov=True)


PER_STEP = {"schedule": schedules.inverse_time(0.1, 0.05), "schedule_per": "step"}
IMAGES = {"model": cnn, "shape": (2, 5, 5)}
CASES = {
    "sgd": Case(),
    "momentum": Case(optimizer=momentum),
    "nesterov, two groups": Case(optimizer=nesterov),
    "adam": Case(optimizer=lambda p: optim.Adam(p, 0.01, weight_decay=1e-3)),
    "adamw": Case(optimizer=lambda p: optim.AdamW(p, 0.01)),
    "rmsprop": Case(optimizer=lambda p: optim.RMSprop(p, 0.01)),
    "rmsprop with momentum": Case(optimizer=lambda p: optim.RMSprop(p, 0.01, momentum=0.9)),
    "float64": Case(lambda: fastnn.Sequential(layers.Linear(6, CLASSES, dtype=np.float64)), dtype=np.float64),
    "dropout": Case(lambda: mlp(layers.Dropout(0.3), layers.Linear(7, 7), layers.Dropout(0.5))),
    "dropout of all": Case(lambda: mlp(layers.Dropout(1.0))),
    "images": Case(**IMAGES),
    "channels-last images, adam": Case(**IMAGES, channels_last=True, optimizer=optim.Adam),
    "schedule per epoch": Case(options={"schedule": schedules.exponential(0.1, 0.5)}),
    "schedule per step": Case(options=PER_STEP),
    "schedule per step, adamw": Case(optimizer=optim.AdamW, options=PER_STEP),
    "l2": Case(options={"l2": 0.01}),
    "one-hot": Case(targets="one-hot"),
    "one byte a label": Case(targets="uint8"),
    "32-bit labels": Case(targets="int32"),
    "sigmoid cross-entropy": Case(loss=losses.SigmoidCrossEntropy(), targets="one-hot"),
    "mse, summed": Case(loss=losses.MSE("sum", factor=0.5), targets="one-hot"),
    "a loss function": Case(loss=F.mse, targets="one-hot"),
    "full batch": Case(batch=EXAMPLES),
    "batches of more than half": Case(batch=EXAMPLES // 2 + 1),
    "no shuffling": Case(fit={"shuffle": False}),
    "drawn with replacement": Case(fit={"draws": 5}),
    "accuracy measured afterwards": Case(options={"train_accuracy": "full"}),
}


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the number of each replay."""
    made: list[int] = []
    replay = Recording.replay

    def count(self: Recording) -> None:
        made.append(len(made))
        replay(self)

    monkeypatch.setattr(Recording, "replay", count)
    return made


def trainer_of(case: Case, capture: bool | None, **options: Any) -> tuple[Any, Trainer]:
    fastnn.seed(3)
    model = case.model()
    options = {"progress": False, "capture": capture, **case.options, **options}
    return model, Trainer(model, case.loss, case.optimizer(model.parameters()), **options)


def fit(trainer: Trainer, case: Case, epochs: int = 3, **more: Any) -> Any:
    return trainer.fit(*case.data(), epochs, case.batch, **{**case.fit, **more})


def state_of(model: Any, trainer: Trainer, history: Any) -> dict[str, Any]:
    """All that training leaves behind, to the bit."""
    found: dict[str, Any] = {name: array.get().tobytes() for name, array in model.state_dict().items()}
    optimizer = trainer.optimizer.state_dict()
    for i, group in enumerate(optimizer["groups"]):
        for name, arrays in group["state"].items():
            found[f"{name} {i}"] = [array.get().tobytes() for array in arrays]
    timeless = [{k: v for k, v in record.items() if "second" not in k} for record in history.epochs]
    return {
        **found,
        **{name: optimizer[name] for name in ("steps", "lr")},
        "losses": history.step_loss,
        "epochs": timeless,
        "streams": backend.stream_state(),
    }


def trained(case: Case, capture: bool | None, epochs: int = 3, **options: Any) -> dict[str, Any]:
    model, trainer = trainer_of(case, capture, **options)
    return state_of(model, trainer, fit(trainer, case, epochs))


@pytest.mark.parametrize("name", CASES)
def test_recorded_steps_leave_the_bits_of_ordinary_ones(name: str, replays: list[int]) -> None:
    case = CASES[name]
    ordinary = trained(case, False)
    assert replays == []
    assert trained(case, True) == ordinary
    examples = case.fit.get("draws", 0) * BATCH or EXAMPLES
    assert len(replays) == 3 * (examples // case.batch) - 1  # all whole batches but the very first
    assert all(type(loss) is float and np.isfinite(loss) for loss in ordinary["losses"])


def test_a_recorded_run_gives_the_figures_of_the_host() -> None:
    case = CASES["images"]._replace(options={"l2": 0.01})
    ours = trained(case, True)
    with fastnn.use_backend("numpy"):
        fastnn.seed(3)
        model = case.model()
        trainer = Trainer(
            model, case.loss, case.optimizer(model.parameters()), progress=False, **case.options
        )
        history = fit(trainer, case)
    np.testing.assert_allclose(ours["losses"], history.step_loss, 1e-4)
    assert [record["accuracy"] for record in ours["epochs"]] == history.column("accuracy")


def test_it_is_the_default(replays: list[int]) -> None:
    trained(CASES["sgd"], None)
    assert len(replays) == 3 * WHOLE - 1


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize("kept", [1, 4, 1000])
def test_when_the_host_looks_changes_nothing(chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["dropout"]
    expected = trained(case, False)
    monkeypatch.setattr(recorded, "_FIRST", chunk)
    monkeypatch.setattr(recorded, "_AHEAD", 0.0 if chunk == 1 else 60.0)
    monkeypatch.setattr(recorded, "_MOST_OUTPUTS", kept * BATCH * CLASSES * 4)
    assert trained(case, True) == expected


def stop_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while replay `number` is under way."""
    replay, left = Recording.replay, [number]

    def press(self: Recording) -> None:
        replay(self)
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Recording, "replay", press)


# In the first epoch, at the last whole batch of it, in the second
@pytest.mark.parametrize(("replay", "steps"), [(3, 4), (WHOLE - 1, WHOLE), (WHOLE + 1, WHOLE + 3)])
@pytest.mark.parametrize("name", ["dropout", "channels-last images, adam", "schedule per step"])
@pytest.mark.parametrize("then", [True, False])
def test_stopped_in_mid_epoch_it_goes_on_to_the_same_bits(
    name: str, replay: int, steps: int, then: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    expected = trained(case, False)
    with monkeypatch.context() as here:
        stop_at(replay, here)
        _, trainer = trainer_of(case, True, checkpoint=tmp_path / "run.npz")
        stopped = fit(trainer, case)
    assert stopped.interrupted
    assert stopped.step_loss == expected["losses"][:steps]
    model, trainer = trainer_of(case, then, checkpoint=tmp_path / "run.npz")
    fastnn.seed(99)  # whatever happened in between
    history = fit(trainer, case, resume=True)
    assert state_of(model, trainer, history)["epochs"] == expected["epochs"]
    assert state_of(model, trainer, history) == {**expected, "streams": backend.stream_state()}


def test_a_loss_that_is_no_number_is_named_with_its_step() -> None:
    case = Case(loss=F.mse, targets="one-hot", optimizer=lambda p: optim.SGD(p, 1e9))
    found = []
    for capture in (True, False):
        _, trainer = trainer_of(case, capture)
        with np.errstate(all="ignore"):
            history = fit(trainer, case)
        found.append((history.diagnosis, repr(history.step_loss), len(history)))
        assert not np.isfinite(history.step_loss[-1])
        assert np.isfinite(history.step_loss[:-1]).all()
        assert f"step {len(history.step_loss)}:" in history.diagnosis
        assert "learning rate (1e+09) is likely too high" in history.diagnosis
    assert found[0] == found[1]


def test_inputs_that_are_no_numbers_are_named() -> None:
    case = CASES["no shuffling"]
    x, y = case.data()
    x[20, 3] = np.nan
    for capture in (True, False):
        _, trainer = trainer_of(case, capture)
        history = trainer.fit(x, y, 2, BATCH, shuffle=False)
        assert "epoch 1, step 3: this batch's inputs already hold NaN" in history.diagnosis
        assert len(history.step_loss) == 3


class Twice(layers.Layer):
    """A layer of somebody's own."""

    def forward(self, x: Any, training: bool = False) -> Any:
        return x * 2

    def backward(self, grad: Any, input_grad: bool = True) -> Any:
        return grad * 2 if input_grad else None


class MySGD(optim.SGD):
    """An optimiser of somebody's own."""


def my_loss(output: Any, targets: Any) -> Any:
    return F.softmax_cross_entropy(output, targets)


def wrapped_forward() -> Any:
    net = mlp()
    first = net[0]
    forward = first.forward
    first.forward = lambda x, training=False: forward(x, training)
    return net


OTHERS = {
    "layer": (Case(lambda: mlp(Twice())), "Twice is no layer"),
    "model": (Case(lambda: type("Mine", (fastnn.Sequential,), {})(*mlp())), "Mine is no layer"),
    "method": (Case(wrapped_forward), r"forward of Linear\(6, 7\) is not"),
    "loss": (Case(loss=my_loss), "the loss, my_loss,"),
    "optimiser": (Case(optimizer=lambda p: MySGD(p, 0.05)), "MySGD is no optimiser"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_python_would_do_is_not_recorded(name: str, replays: list[int]) -> None:
    case, reason = OTHERS[name]
    with pytest.raises(ValueError, match=f"capture=True, but .* cannot be captured: .*{reason}"):
        trained(case, True)
    assert trained(case, None) == trained(case, False)
    assert replays == []


def test_without_a_gpu_it_is_an_error_to_ask_for_it() -> None:
    with fastnn.use_backend("numpy"), pytest.raises(ValueError, match="backend 'numpy', and only"):
        trained(CASES["sgd"], True)


def replace_weight(trainer: Trainer) -> None:
    first = trainer.model[0]
    first.weight.data = first.weight.data * 2
    first.weight = layers.parameter.Parameter("weight", first.weight.data)


CHANGES: dict[str, Callable[[Trainer], Any]] = {
    "a layer": lambda t: setattr(t.model[2], "p", 0.1),
    "a parameter": replace_weight,
    "momentum": lambda t: setattr(t.optimizer.groups[0], "momentum", 0.5),  # the next step makes velocities
    "weight decay": lambda t: setattr(t.optimizer.groups[0], "weight_decay", 0.1),
    "the optimiser's state": lambda t: t.optimizer.load_state_dict(t.optimizer.state_dict()),
    "the learning rate": lambda t: setattr(t.optimizer, "lr", 0.01),
    "the penalty": lambda t: setattr(t, "l2", 0.02),
    "the loss": lambda t: setattr(t.criterion.loss, "factor", 3.0),
    "the seed": lambda t: fastnn.seed(11),
    "the precision": lambda t: fastnn.set_float32_precision("high"),
}


@pytest.mark.parametrize("batch", [BATCH, EXAMPLES])
@pytest.mark.parametrize("what", CHANGES)
def test_a_change_between_epochs_is_seen(
    what: str, batch: int, replays: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "the precision":  # which the tile of 8 columns has nothing to do with
        test_cuda_product.force(monkeypatch, "small")

    def run(capture: bool, change: Callable[[Trainer], Any]) -> dict[str, Any]:
        case = CASES["dropout"]._replace(
            batch=batch, targets="one-hot", loss=losses.MSE(), optimizer=momentum
        )
        if what == "momentum":
            case = case._replace(optimizer=sgd)
        model, trainer = trainer_of(case, capture)
        trainer.progress = lambda record: change(trainer) if record["epoch"] == 2 else None
        return state_of(model, trainer, fit(trainer, case, 5))

    ordinary = run(False, CHANGES[what])
    fastnn.set_float32_precision("highest")
    assert run(True, CHANGES[what]) == ordinary
    fastnn.set_float32_precision("highest")
    assert replays
    if what != "the optimiser's state":
        assert run(False, lambda trainer: None)["losses"] != ordinary["losses"]


@pytest.mark.parametrize("must", [True, None])
def test_a_step_that_cuda_refuses_is_a_warning_or_an_error(
    must: bool | None, gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["channels-last images, adam"]
    expected = trained(case, False)

    def refuse(function: Callable[[], None]) -> None:
        function()
        raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    record = gpu.record
    monkeypatch.setattr(gpu, "record", lambda function: record(lambda: refuse(function)))
    if must:
        with pytest.raises(RuntimeError, match="CaptureInvalidated"):
            trained(case, must)
    else:
        with pytest.warns(RuntimeWarning, match="without a CUDA graph: cudaErrorStreamCaptureInvalidated"):
            assert trained(case, must) == expected


def waits(capture: bool, epochs: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the host waits for the device."""
    made, get = [], pretended.ndarray.get
    with monkeypatch.context() as here:
        here.setattr(pretended.ndarray, "get", lambda self: made.append(1) or get(self))
        trained(CASES["momentum"], capture, epochs)
    return len(made)


def test_the_host_waits_a_few_times_an_epoch_and_not_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_FIRST", WHOLE)
    monkeypatch.setattr(recorded, "_AHEAD", 60.0)  # a slow machine need not look more often
    # The losses and the score of the recorded steps, and those of the last batch
    assert waits(True, 5, monkeypatch) - waits(True, 4, monkeypatch) == 4
    assert waits(False, 5, monkeypatch) - waits(False, 4, monkeypatch) == 2


def test_a_graph_uses_no_memory_that_was_freed(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step allocates, its graph's memory pool keeps. All else must be held by somebody."""
    own: list[np.ndarray] = []  # allocated during the capture
    known: dict[int, Any] = {}

    def owner(array: np.ndarray) -> np.ndarray:
        while isinstance(array.base, np.ndarray):
            array = array.base
        return array

    do, made = gpu.do, pretended.ndarray.__init__

    def note(action: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
        if pretended.capture() is None:
            do(action, arguments)
            return
        mine = {id(array) for array in own}
        for argument in arguments:
            if isinstance(argument, np.ndarray) and id(owner(argument)) not in mine:
                known[id(owner(argument))] = weakref.ref(owner(argument))

    def allocate(self: Any, host: np.ndarray) -> None:
        made(self, host)
        if pretended.capture() is not None and owner(host) is host:
            own.append(host)

    monkeypatch.setattr(gpu, "do", note)
    monkeypatch.setattr(pretended.ndarray, "__init__", allocate)
    # Nothing is replayed, so nothing but those whom it concerns keeps the arrays
    alive: list[int] = []

    def count(self: Recording) -> None:
        gc.collect()
        alive.append(sum(ref() is not None for ref in known.values()))

    monkeypatch.setattr(Recording, "replay", count)
    case = CASES["channels-last images, adam"]._replace(options={"l2": 0.01})
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, trainer = trainer_of(case, True, train_accuracy="full")
        fit(trainer, case, validation=case.data())
    assert len(known) > 10
    assert set(alive) == {len(known)}


def test_metrics_other_than_the_accuracy_are_kept_too() -> None:
    case = CASES["sgd"]._replace(options={"metric": lambda out, y: metrics.top_k_accuracy(out, y, 2)})
    assert trained(case, True) == trained(case, False)
