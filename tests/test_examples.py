"""The examples run as they are, on real data cut short."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastnn

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def train_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example of that name, as a module, with the backend put back afterwards."""
    before = fastnn.get_backend().name
    spec = importlib.util.spec_from_file_location("train_gpu", ROOT / "examples" / "train_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    fastnn.set_backend(before)


def first(load, count):
    """`load` with so many images of each set."""

    def shortened():
        images = load()
        for name in ("x_train", "y_train", "x_test", "y_test"):
            object.__setattr__(images, name, getattr(images, name)[:count])
        return images

    return shortened


@pytest.mark.parametrize("task", ["mnist-lenet", "cifar10-cnn"])
def test_train_gpu_trains_and_says_how_well_and_how_fast(task, train_gpu, data_root, monkeypatch, capsys):
    monkeypatch.setenv("FASTNN_DATA", str(data_root))
    load, *rest = train_gpu.TASKS[task]
    monkeypatch.setitem(train_gpu.TASKS, task, (first(load, 3000), *rest))
    monkeypatch.setattr(sys, "argv", ["train_gpu.py", task, "--backend", "numba", "--epochs", "3"])
    train_gpu.main()
    said = re.search(r"test accuracy ([\d.]+) % after [\d.]+ s of training", capsys.readouterr().out)
    assert said
    assert float(said[1]) > (50 if task == "mnist-lenet" else 15)  # by chance 10


def test_train_gpu_says_in_one_line_that_there_is_no_gpu(train_gpu, monkeypatch, capsys):
    reason = fastnn.available_backends()["cupy"]
    if reason is None:
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(sys, "argv", ["train_gpu.py", "mnist-lenet"])
    with pytest.raises(SystemExit) as ended:
        train_gpu.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"backend 'cupy' is not available: {reason}\n"
