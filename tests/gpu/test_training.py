"""Training on the GPU: to its accuracy, the same with captured steps, in two streams and on two threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import data, losses, optim, schedules
from fastnn.training import Trainer
from tests import layouts
from tests.gpu.moving import to_gpu, to_host

pytestmark = pytest.mark.gpu


def lenet() -> fastnn.Sequential:
    return fastnn.Sequential(
        *(fastnn.Conv2d(1, 6, 5), fastnn.ReLU(), fastnn.MaxPool2d(2)),
        *(fastnn.Conv2d(6, 16, 5), fastnn.ReLU(), fastnn.MaxPool2d(2), fastnn.Flatten()),
        *(fastnn.Linear(256, 120), fastnn.ReLU(), fastnn.Dropout(0.5)),
        *(fastnn.Linear(120, 84), fastnn.ReLU(), fastnn.Dropout(0.5), fastnn.Linear(84, 10)),
    )


@pytest.mark.large
def test_one_epoch_of_lenet_reaches_its_accuracy(data_root: Path) -> None:
    if not (data_root / "MNIST").is_dir():
        pytest.skip(f"MNIST is not in {data_root}")
    mnist = data.load_mnist(data_root)
    x, mean, std = data.standardize(mnist.x_train, per="global")
    x_test, _, _ = data.standardize(mnist.x_test, mean, std)
    net = lenet()
    adam = optim.Adam(net.parameters(), 2e-3)  # on a CPU it comes to 97.9 %
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), adam, progress=False, capture=True)
    trainer.fit(x, mnist.y_train, epochs=1, batch_size=64)
    assert trainer.evaluate(x_test, mnist.y_test)[1] >= 0.97


def mlp(*more: Any) -> fastnn.Sequential:
    return fastnn.Sequential(fastnn.Linear(20, 16), fastnn.Sigmoid(), *more, fastnn.Linear(16, 3))


def small_cnn() -> fastnn.Sequential:
    return fastnn.Sequential(
        *(fastnn.Conv2d(2, 4, 3, padding=1), fastnn.BatchNorm2d(4), fastnn.ReLU(), fastnn.MaxPool2d(2)),
        *(fastnn.Flatten(), fastnn.Dropout(0.4), fastnn.Linear(36, 3)),
    )


SGD = lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3)  # noqa: E731
RUNS: dict[str, tuple[tuple[int, ...], Callable[[], Any], Callable[[Any], Any], dict[str, Any]]] = {
    "mlp": ((20,), mlp, SGD, {}),
    "dropout": ((20,), lambda: mlp(fastnn.Dropout(0.3)), SGD, {}),
    "cnn": ((2, 6, 6), small_cnn, SGD, {"l2": 1e-3}),
    "adam": ((20,), mlp, lambda p: optim.Adam(p, 0.01), {}),
    "schedule": ((20,), mlp, SGD, {"schedule": schedules.inverse_time(0.1, 0.01), "schedule_per": "step"}),
    "rmsprop": ((20,), mlp, lambda p: optim.RMSprop(p, 0.01), {}),
}


def trained(name: str, capture: bool, batch_size: int = 16) -> list[np.ndarray]:
    """The weights, buffers and losses of two epochs."""
    shape, make, rule, options = RUNS[name]
    fastnn.seed(5)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((103, *shape), np.float32)  # the last batch is smaller
    y = rng.integers(0, 3, len(x))
    net = make()
    trainer = Trainer(
        *(net, losses.SoftmaxCrossEntropy(), rule(net.parameters())),
        progress=False,
        capture=capture,
        **options,
    )
    history = trainer.fit(x, y, epochs=2, batch_size=batch_size)
    return [np.array(history.step_loss), *to_host(list(net.state_dict().values()))]


@pytest.mark.parametrize("name", RUNS)
def test_captured_steps_leave_the_weights_of_ordinary_ones_to_the_bit(name: str) -> None:
    for ours, theirs in zip(trained(name, True), trained(name, False), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    x, y = layouts.floats(1, (96, 20), np.float32), np.arange(96) % 3

    def run(epochs: int, checkpoint: Path | None, resume: bool) -> list[np.ndarray]:
        fastnn.seed(2)
        net = mlp(fastnn.Dropout(0.2))
        rule = optim.Adam(net.parameters(), 0.01)
        loss = losses.SoftmaxCrossEntropy()
        trainer = Trainer(net, loss, rule, progress=False, checkpoint=checkpoint, seed=3)
        trainer.fit(x, y, epochs=epochs, batch_size=20, resume=resume)
        return weights(net)

    whole = run(4, None, resume=False)
    run(2, tmp_path / "run.npz", resume=False)
    assert_same([run(4, tmp_path / "run.npz", resume=True)], [whole])


def stepping(net: Any, x: Any, y: Any) -> Iterator[None]:
    """Takes a training step each time it is asked for the next."""
    sgd = optim.SGD(net.parameters(), 0.05, momentum=0.9)
    while True:
        _, grad = F.softmax_cross_entropy(net.forward(x, training=True), y)
        net.backward(grad, input_grad=False)
        sgd.step()
        yield


def two_works() -> list[tuple[Any, Any, Any]]:
    """Two networks, each with a batch of its own, and the labels of both."""
    fastnn.seed(1)
    y = to_gpu(np.arange(32) % 3)
    return [(mlp(), to_gpu(layouts.floats(seed, (32, 20), np.float32)), y) for seed in (1, 2)]


def weights(net: Any) -> list[np.ndarray]:
    return to_host([p.data for p in net.parameters()])


@pytest.fixture
def alone() -> list[list[np.ndarray]]:
    """The weights of each of the two networks after 20 steps with nothing beside it."""
    found = []
    for work in two_works():
        run = stepping(*work)
        for _ in range(20):
            next(run)
        found.append(weights(work[0]))
    return found


def assert_same(found: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_two_streams_do_not_disturb_each_other(cupy: Any, alone: list[list[np.ndarray]]) -> None:
    works = two_works()
    cupy.cuda.Device().synchronize()  # these streams do not wait for the one that made the works
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in works]
    runs = [stepping(*work) for work in works]
    for _ in range(20):
        for run, stream in zip(runs, streams, strict=True):
            with stream:
                next(run)
    cupy.cuda.Device().synchronize()
    assert_same([weights(net) for net, _, _ in works], alone)


def test_two_threads_train_as_one_after_the_other(alone: list[list[np.ndarray]]) -> None:
    def work(net: Any, x: Any, y: Any) -> list[np.ndarray]:
        with fastnn.use_backend("cupy"):
            run = stepping(net, x, y)
            for _ in range(20):
                next(run)
            return weights(net)

    with ThreadPoolExecutor(2) as executor:
        together = list(executor.map(work, *zip(*two_works(), strict=True)))
    assert_same(together, alone)


def test_two_threads_train_with_captured_steps() -> None:
    x, y = layouts.floats(1, (96, 20), np.float32), np.arange(96) % 3

    def work(net: Any) -> list[np.ndarray]:
        with fastnn.use_backend("cupy"):
            sgd = optim.SGD(net.parameters(), 0.05, momentum=0.9)
            trainer = Trainer(net, losses.SoftmaxCrossEntropy(), sgd, progress=False, seed=4, capture=True)
            trainer.fit(x, y, epochs=3, batch_size=16)
            return weights(net)

    expected = [work(net) for net, _, _ in two_works()]
    with ThreadPoolExecutor(2) as executor:
        together = list(executor.map(work, [net for net, _, _ in two_works()]))
    assert_same(together, expected)
