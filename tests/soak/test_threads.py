"""Threads and processes that share a machine, for longer than `make test` can wait.

Ten seconds of eight Python threads in calls, whichever of Numba's threading layers is chosen; a forked loader
of batches; and the work that four processes get done together, on two threads each, beside that of one alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10


def call_from_threads() -> int:
    """How many calls eight threads make in `SECONDS`; AssertionError if one has not the serial result."""
    import fastnn
    from tests.operations import OPERATIONS, bits

    fastnn.set_num_threads(1)
    serial = {name: bits(call()) for name, call in OPERATIONS.items()}
    fastnn.set_num_threads(3)
    wrong: list[str] = []
    calls = [0] * 8
    end = time.monotonic() + SECONDS

    def work(number: int) -> None:
        names = np.random.default_rng(number).permutation(list(OPERATIONS)).tolist()
        try:
            while time.monotonic() < end:
                for name in names:
                    if bits(OPERATIONS[name]()) != serial[name]:
                        wrong.append(name)
                    calls[number] += 1
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert all(calls), calls
    return sum(calls)


def run(function: str, **env: str) -> str:
    """What a fresh process prints of a function of this module."""
    code = f"from tests.soak.test_threads import *; print({function})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **env},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_eight_python_threads_get_the_serial_results_for_ten_seconds(layer: str) -> None:
    # Kernels have threads of their own: workqueue, which may not be entered twice at once, is never entered.
    assert int(run("call_from_threads()", NUMBA_THREADING_LAYER=layer)) > 100


def train(batches) -> list[bytes]:
    """The weights after a step with each of the batches."""
    import fastnn
    import fastnn.functional as F
    from fastnn import Linear, Sequential, Sigmoid, optim

    fastnn.seed(0)
    net = Sequential(Linear(784, 64), Sigmoid(), Linear(64, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for x, y in batches:
        _, grad = F.softmax_cross_entropy(net.forward(x, training=True), y)
        net.backward(grad, input_grad=False)
        sgd.step()
    return [parameter.data.tobytes() for parameter in net.parameters()]


def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that a loader prepares with kernels of its own: shrunk to a half, and standardised."""
    import fastnn.functional as F

    rng = np.random.default_rng(number)
    images = F.avg_pool2d(rng.random((64, 1, 56, 56), dtype=np.float32), 2)
    return (images.reshape(64, -1) - images.mean()) / images.std(), rng.integers(10, size=64)


def forked_loader(workers: int) -> bool:
    """Whether batches that forked processes prepare, while this one trains, lead to the same weights."""
    import multiprocessing

    import fastnn

    fastnn.set_num_threads(2)
    expected = train(map(batch, range(200)))  # the pool is in use when the loader is forked
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return train(pool.imap(batch, range(200))) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_of_a_forked_loader_train_the_same_network(workers: int) -> None:
    assert run(f"forked_loader({workers})") == "True\n"


WORK = """
import sys, time
import numpy as np
import fastnn
from tests.soak.test_threads import batch, train

fastnn.set_num_threads(2)
batches = [batch(number) for number in range(20)]
train(batches)
print("ready", flush=True)
sys.stdin.readline()
end, steps = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    train(batches)
    steps += len(batches)
print(steps)
"""


def steps_of(processes: int, seconds: float) -> int:
    """Training steps that so many processes get done at once, on two threads each."""
    command = [sys.executable, "-c", WORK, str(seconds)]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    return sum(int(child.communicate()[0]) for child in children)


def test_four_processes_together_get_seventy_per_cent_of_the_work_of_one_done() -> None:
    # In turn, since the machine may be busy with other things.
    shares = []
    for _ in range(3):
        alone = steps_of(1, 4)
        shares.append(steps_of(4, 4) / alone)
    assert statistics.median(shares) >= 0.7, shares
