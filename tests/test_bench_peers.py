"""The comparison with other libraries compares like with like, and goes on without those that are missing."""

from __future__ import annotations

import functools
import importlib.util
import math
import signal

import numpy as np
import pytest

import fastnn
from bench.networks import by_name
from bench.peers.rounds import STEPS, PeerFailed, Process, Unequal, agree, compare
from bench.peers.workloads import BASELINE, OURS, PEERS, WORKLOADS

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops processes by a POSIX signal")

MODULES = {"scikit-learn": "sklearn"}  # where a package's module is called otherwise
CHECKED = (
    *("mnist-mlp, batch 64", "cifar2-mlp, batch 64", "mnist-lenet, batch 64"),
    "mnist-lenet, inference, batch 1",
    "mnist-mlp on digits, batch 64",
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}


def values(peer: str, workload: str) -> list[float]:
    """The losses of the first steps, or the outputs, from a process like those that are timed."""
    with Process(peer, workload, 2) as process:
        found: list[float] = process.ask("check")["values"]
    return found


ours = functools.cache(functools.partial(values, OURS))


@pytest.mark.parametrize(
    ("workload", "peer"),
    # but for torch.compile, which takes too long to compile
    [(w, p) for w in CHECKED for p in BY_NAME[w].peers if p not in (OURS, "torch.compile")],
)
def test_peer_computes_the_same_as_fastnn(workload: str, peer: str) -> None:
    if reason := BY_NAME[workload].network.missing():
        pytest.skip(reason)
    for package in PEERS[peer].packages:
        if importlib.util.find_spec(MODULES.get(package, package)) is None:
            pytest.skip(f"{package} is not installed")
    agree({OURS: ours(workload), peer: values(peer, workload)})


@pytest.mark.parametrize("workload", [name for name in CHECKED if "inference" not in name])
def test_losses_move_while_they_are_checked_so_that_a_wrong_update_shows(workload: str) -> None:
    if reason := BY_NAME[workload].network.missing():
        pytest.skip(reason)
    losses = ours(workload)
    assert max(losses) - min(losses) > 5e-3 * max(losses)


@pytest.mark.parametrize("other", [[1.0, 2.005], [1.0, math.nan]])
def test_peers_that_do_not_agree_are_not_timed(other: list[float]) -> None:
    agree({OURS: [1.0, 2.0], "PyTorch": [1.0001, 1.9999]})
    with pytest.raises(Unequal, match="PyTorch"):
        agree({OURS: [1.0, 2.0], "PyTorch": other})


def test_comparison_times_every_peer_and_names_those_that_cannot_run() -> None:
    said: list[str] = []
    workload = BY_NAME["mnist-mlp, batch 64"]._replace(peers=(OURS, BASELINE, "nobody"))
    results = compare(workload, rounds=3, seconds=0.03, threads=2, say=said.append)
    assert "nobody" in results["nobody"]["skipped"]
    assert any("nobody" in line for line in said)
    for peer in (OURS, BASELINE):
        assert results[peer]["steps"] >= STEPS
        assert len(results[peer]["rounds"]) == 3
        assert 0 < min(results[peer]["rounds"]) <= results[peer]["median"] <= max(results[peer]["rounds"])
        assert results[peer]["peak"] > 10**7


def test_process_that_dies_is_a_failure_of_its_peer() -> None:
    with Process(OURS, CHECKED[0], 2) as process:
        process.child.kill()
        with pytest.raises(PeerFailed, match="ended"):
            process.ask("check")


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-lenet", "cifar10-cnn"])
def test_exported_graph_computes_what_the_network_does(name: str) -> None:
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    from bench.peers.onnxruntime_peer import export

    network = by_name[name]
    x, _ = network.batch()
    with fastnn.use_backend("numpy"):
        expected = network.build()(x)
    (actual,) = ReferenceEvaluator(export(network)).run(None, {"x": x})
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
