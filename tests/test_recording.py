"""What recording a step is made of: its own kernels, and what CuPy is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.kernels.cuda import _launch, step
from tests import pretended

pytestmark = pytest.mark.skipif(pretended.WHY_NOT is not None, reason=str(pretended.WHY_NOT))


@pytest.fixture(scope="module", autouse=True)
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("recording")
    with pretended.pretended(folder) as toolkit, fastnn.use_backend("cupy"):
        yield toolkit


@pytest.mark.parametrize("shape", [(32,), (6,), (3, 5), (), (4, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("shuffled", [True, False])
def test_a_batch_is_gathered_by_its_number(shape: tuple[int, ...], dtype: Any, shuffled: bool) -> None:
    xp, rng = fastnn.get_backend().xp, np.random.default_rng(0)
    rows = rng.integers(0, 200, (23, *shape)).astype(dtype)
    order = rng.permutation(23) if shuffled else np.arange(23)
    position = xp.zeros(1, np.int64)
    for number in range(3):
        position.fill(number)
        out = xp.empty((7, *shape), dtype)
        step.gather(xp.asarray(rows), out, xp.asarray(order) if shuffled else None, position)
        np.testing.assert_array_equal(out.get(), rows[order[7 * number : 7 * number + 7]])


def test_outputs_and_losses_are_kept_by_the_number_of_the_step() -> None:
    xp, rng = fastnn.get_backend().xp, np.random.default_rng(0)
    outputs, losses = xp.zeros((2, 5, 3), np.float32), xp.zeros((4, 2), np.float64)
    position, streams = xp.zeros(1, np.int64), xp.zeros(1, np.int64)
    kept = rng.standard_normal((3, 5, 3)).astype(np.float32)
    for number, output in enumerate(kept):
        loss, penalty = (xp.asarray(np.array(value)) for value in (1.5 + number, 0.25))
        step.keep(xp.asarray(output), outputs, position)
        step.finish(loss, penalty if number else None, losses, position, streams, 4)
    np.testing.assert_array_equal(outputs.get(), kept[[2, 1]])  # room for two: the third goes to the first's
    np.testing.assert_array_equal(losses.get(), [[1.5, 0], [2.5, 0.25], [3.5, 0.25], [0, 0]])
    assert (int(position[0]), int(streams[0])) == (3, 12)


class Cuda:
    """What CuPy is asked for when a step is recorded; notes it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.runtime = SimpleNamespace(CUDARuntimeError=OSError)
        self.broken = False

    def MemoryPool(self) -> Any:
        return SimpleNamespace(malloc="the graph's own")

    def Stream(self, non_blocking: bool = False) -> Any:
        assert non_blocking
        return self

    def using_allocator(self, malloc: Any) -> Any:
        assert malloc == "the graph's own"
        return self

    def __enter__(self) -> None:
        self.log.append("enter")

    def __exit__(self, *_: Any) -> None:
        self.log.append("exit")

    def begin_capture(self) -> None:
        self.log.append("begin")

    def end_capture(self) -> Any:
        self.log.append("end")
        if self.broken:
            raise OSError("cudaErrorStreamCaptureInvalidated")
        return SimpleNamespace(launch=lambda: self.log.append("launch"))


def recorder(cuda: Cuda) -> Any:
    toolkit = _launch.CuPy()
    pool = SimpleNamespace(free_all_blocks=lambda: cuda.log.append("free"))
    toolkit.xp = SimpleNamespace(cuda=cuda, get_default_memory_pool=lambda: pool)
    return toolkit


def test_a_graph_is_captured_in_a_stream_and_memory_of_its_own() -> None:
    cuda = Cuda()
    replay = recorder(cuda).record(lambda: cuda.log.append("step"))
    assert cuda.log == ["free", "enter", "enter", "begin", "step", "end", "exit", "exit"]
    replay()
    assert cuda.log[-1] == "launch"


@pytest.mark.parametrize("broken", [False, True])
def test_a_capture_that_fails_is_ended_and_says_why(broken: bool) -> None:
    cuda = Cuda()
    cuda.broken = broken

    def fail() -> None:
        raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        recorder(cuda).record(fail)
    assert cuda.log[-4:] == ["begin", "end", "exit", "exit"]
