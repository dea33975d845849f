"""The benchmarks of the GPU, as far as they need none: what they list, keep and print."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import fastnn
from bench.gpu import __main__ as program
from bench.gpu import floors, items, tables
from bench.gpu.clock import Clock, timed

ROOT = Path(__file__).resolve().parents[1]


def test_timed_takes_the_median_of_rounds_of_milliseconds() -> None:
    now, calls = [0.0], [0]

    def call() -> None:
        calls[0] += 1
        now[0] += 0.002 if calls[0] < 1000 else 1e9

    clock = Clock(lambda: now[0], lambda first, last: last - first)
    spent = timed(call, clock, 0.0)
    assert spent["median"] == pytest.approx(0.002)
    assert spent["calls"] == 3
    assert len(spent["rounds"]) >= 7


def test_the_peak_kernel_compiles_to_multiply_adds_that_do_not_spill() -> None:
    pytest.importorskip("cupy")
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:
        pytest.skip(f"NVRTC is not here: {error}")
    text = (ROOT / "bench" / "gpu" / "peak.cu").read_text()
    made = nvrtc.createProgram(text, "peak.cu", (), ())
    nvrtc.compileProgram(made, ["--std=c++17", "-arch=sm_90", "--ptxas-options=-v"])
    assert "0 bytes spill" in nvrtc.getProgramLog(made)
    made = nvrtc.createProgram(text, "peak.cu", (), ())
    nvrtc.compileProgram(made, ["--std=c++17", "-arch=compute_90"])
    assert nvrtc.getPTX(made).count(b"fma.rn") >= floors._SUMS


def test_every_item_has_a_name_of_its_own_and_all_networks_are_among_them() -> None:
    listed = items.names()
    assert len(set(listed)) == len(listed)
    assert len(items.names(["networks"])) == len(items.PUBLISHED) + 3
    assert items.names(["kernels"], ["conv_pool"]) == [
        "kernels/conv_pool, published",
        "kernels/conv_pool, 20 batches",
    ]
    assert {size.partition(", ")[2] or "published" for size in items.PARTS["kernels"]} <= set(
        items.KERNEL_SIZES
    )


TIME = {"median": 2e-4, "rounds": [2e-4], "calls": 5}
RESULTS: dict[str, Any] = {
    "limits/limits": {"copy": 4e12, "multiply-add": 5e13, "matmul, TF32": 4e14},
    "networks/small": {
        "fastnn, captured": TIME,
        "fastnn, ordinary": {**TIME, "median": 4e-4},
        "PyTorch, eager": {**TIME, "median": 1e-3},
        "PyTorch, graph": {"failed": "RuntimeError: no"},
    },
    "compile/small": {"fastnn, captured": {**TIME, "median": 1e-4}, "PyTorch, compile": TIME},
    "networks-tf32/large": {"fastnn, captured": TIME, "PyTorch, eager": TIME},
    "networks-tf32/small": {"fastnn, captured": {"failed": "RuntimeError: no"}},
    "kernels/activation": [
        {"name": "relu", "family": "activation", "operations": 1e8, "traffic": 8e8, "seconds": 4e-4}
    ],
    "kernels-tf32/linear, 20 batches": [
        {"name": "square", "family": "linear", "operations": 2e11, "traffic": 2e8, "seconds": 1e-3}
    ],
}


def run(results: dict[str, Any]) -> dict[str, Any]:
    started = program.start({"gpu": "A GPU 9", "gpu driver": "CUDA 13.0", "gpu memory": "4.0 GiB"})
    return {
        **started,
        "date": "2030-01-02T03:04:05+00:00",
        "versions": {"torch": "2.11.0"},
        "results": results,
    }


def test_tables_have_ratios_to_the_captured_step_and_shares_of_the_limits() -> None:
    assert tables.document(run(RESULTS)).splitlines() == [
        "A GPU 9, driver CUDA 13.0, 2030-01-02; torch 2.11.0.",
        "",
        "A training step, float32: its time on fastnn as a CUDA graph; others over that.",
        "",
        "| network | fastnn | as calls | PyTorch | torch.compile |",
        "|---|---:|---:|---:|---:|",
        "| small | 200 µs | 2.00 | 5.00 | 2.00 |",
        "",
        "A training step, TF32: its time on fastnn as a CUDA graph; others over that.",
        "",
        "| network | fastnn | PyTorch |",
        "|---|---:|---:|",
        "| large | 200 µs | 1.00 |",
        "| small | failed |  |",
        "",
        "Limits: copy 4.00 TB/s, multiply-add 50.0 TFLOP/s, matmul, TF32 400.0 TFLOP/s.",
        "",
        "| kernel | time | GB/s | GFLOP/s | share of its limit |",
        "|---|---:|---:|---:|---:|",
        "| relu | 400 µs | 2000 | 250 | 50% |",
        "| square, TF32 | 1.00 ms | 200 | 200000 | 50% |",
    ]


def test_failures_are_named_with_their_contender() -> None:
    failed = {**run(RESULTS), "failed": {"limits/limits": "no result after 9 s"}}
    assert program.failures(failed) == [
        "limits/limits: no result after 9 s",
        "networks/small, PyTorch, graph: RuntimeError: no",
        "networks-tf32/small, fastnn, captured: RuntimeError: no",
    ]


class Scripted:
    """In a worker's place."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies = iter(replies)

    def do(self, item: str, deadline: float) -> dict[str, Any]:
        return {"item": item, **next(self.replies)}


def test_what_was_measured_is_on_disk_before_the_next_item_and_an_error_stops_nothing(tmp_path: Path) -> None:
    path, started = tmp_path / "x.json", run({})
    with pytest.raises(StopIteration):  # the third finds no reply
        program.measure(
            Scripted({"result": {"a": 1}}, {"error": "broken"}), started, ["1", "2", "3"], 9.0, path
        )
    written = json.loads(path.read_text())
    assert written["results"] == {"1": {"a": 1}}
    assert written["failed"] == {"2": "broken"}


def test_items_past_the_budget_are_named(tmp_path: Path) -> None:
    started = run({})
    program.measure(Scripted(), started, ["1", "2"], -1.0, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["not reached"] == ["1", "2"]


def test_an_item_that_the_end_of_the_budget_cuts_short_was_not_reached(tmp_path: Path) -> None:
    class Slow:
        def do(self, item: str, deadline: float) -> dict[str, Any]:
            time.sleep(max(0.0, deadline - time.monotonic()))
            return {"item": item, "error": "no result after 0 s"}

    started = run({})
    program.measure(Slow(), started, ["1", "2"], 0.05, tmp_path / "x.json")
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["not reached"] == ["1", "2"]
    assert written["failed"] == {}


def test_a_part_is_added_to_what_the_same_machine_measured_that_day(tmp_path: Path) -> None:
    path = program.file_for(run({}), tmp_path)
    assert path.name == "a-gpu-9-2030-01-02.json"
    path.write_text(json.dumps(run({"limits/limits": {"copy": 1.0}})))
    later = run({})
    program.add_earlier(later, path)
    assert later["results"] == {"limits/limits": {"copy": 1.0}}
    other = {**run({}), "versions": {"torch": "3"}}
    program.add_earlier(other, path)
    assert other["results"] == {}


def test_a_worker_answers_for_an_item_that_cannot_be_done_and_for_the_next() -> None:
    worker = program.Worker(0.0)
    try:
        for item in ("networks/nothing", "limits/limits"):
            reply = worker.do(item, deadline=float("inf"))
            assert reply["item"] == item
            if fastnn.available_backends()["cupy"] is not None:
                assert "BackendUnavailable" in reply["error"]
    finally:
        worker.end()


def test_a_worker_that_says_nothing_is_stopped() -> None:
    worker = program.Worker(0.0)
    worker._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    reply = worker.do("limits/limits", deadline=program.time.monotonic() + 0.2)
    assert "no result after" in reply["error"]
    worker._command = [sys.executable, "-c", ""]
    assert "ended with status" in worker.do("limits/limits", deadline=float("inf"))["error"]
    worker.end()


def test_without_a_gpu_the_program_says_why_in_one_line() -> None:
    reason = fastnn.available_backends()["cupy"]
    if reason is None:
        pytest.skip("there is a GPU here")
    command = [sys.executable, "-m", "bench.gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"bench.gpu: {reason}"]
