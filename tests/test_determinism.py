"""The same numbers give the same bits: for any number of threads, for kernels compiled or loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

TRAIN = """
import hashlib, sys
import numpy as np
import fastnn
import fastnn.functional as F
from fastnn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, Sigmoid, optim

for threads in map(int, sys.argv[1:]):
    fastnn.set_num_threads(threads)
    fastnn.seed(0)
    net = Sequential(
        Conv2d(3, 20, 3, padding=1), Sigmoid(), MaxPool2d(2), Conv2d(20, 6, 3), ReLU(), Flatten(),
        Linear(216, 90), ReLU(), Dropout(0.3), Linear(90, 10),
    )
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y = rng.standard_normal((37, 3, 16, 16), np.float32), rng.integers(0, 10, 37)
        loss, grad = F.softmax_cross_entropy(net.forward(x, training=True), y)
        net.backward(grad, input_grad=False)
        optimizer.step()
    digest = hashlib.sha256(b"".join(p.data.tobytes() for p in net.parameters())).hexdigest()
    print(loss.hex(), digest)
"""


def weights_after_training(cache: Path, *threads: int) -> list[str]:
    """A line for each number of threads: the last loss and a digest of the weights, to the last bit."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "FASTNN_BACKEND": "numba"}
    command = [sys.executable, "-c", TRAIN, *map(str, threads)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    cache = tmp_path_factory.mktemp("cache")
    return weights_after_training(cache, 2), weights_after_training(cache, 1, 2, 3, 8)


def test_weights_do_not_depend_on_the_number_of_threads(runs: tuple[list[str], list[str]]) -> None:
    _, loaded = runs
    assert len(loaded) == 4
    assert len(set(loaded)) == 1, loaded


def test_kernels_loaded_from_the_cache_give_the_bits_of_freshly_compiled_ones(
    runs: tuple[list[str], list[str]],
) -> None:
    compiled, loaded = runs
    assert compiled == loaded[1:2]
