"""Threads are as many as the CPUs that this process may use: by its affinity, and by its cgroup's quota."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn.kernels.cpu import _cpus

ROOT = Path(__file__).resolve().parents[1]
CPUS = 64


@pytest.fixture(autouse=True)
def _large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CPUS)), raising=False)


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", CPUS),
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),
        ("20000 100000\n", 1),
        ("9900000 100000\n", CPUS),
        ("nonsense", CPUS),
    ],
)
def test_quota_of_cgroup_v2_limits_the_threads(text: str, cpus: int, tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": text})
    assert _cpus.available(root) == cpus


def test_smallest_quota_from_the_process_up_to_the_top_holds(tmp_path: Path) -> None:
    quotas = {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "800000 100000"}
    root = machine(tmp_path, "0::/a/b\n", {f"sys/fs/cgroup/{name}": text for name, text in quotas.items()})
    assert _cpus.available(root) == 3


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "cpus"), [("-1", CPUS), ("400000", 4)])
def test_quota_of_cgroup_v1_limits_the_threads(folder: str, quota: str, cpus: int, tmp_path: Path) -> None:
    lines = "4:memory:/pod\n3:cpu,cpuacct:/pod\n0::/\n"
    files = {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"}
    root = machine(tmp_path, lines, {f"sys/fs/cgroup/{folder}/pod/{name}": t for name, t in files.items()})
    assert _cpus.available(root) == cpus


def test_quota_is_found_where_a_namespace_hides_the_path(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/../docker/1a2b\n", {"sys/fs/cgroup/cpu.max": "200000 100000"})
    assert _cpus.available(root) == 2


def test_machine_without_cgroups_leaves_all_cpus(tmp_path: Path) -> None:
    assert _cpus.available(tmp_path) == CPUS


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is set as Linux does it")
def test_affinity_limits_the_threads() -> None:
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import fastnn
print(fastnn.get_num_threads())
"""
    env = {name: value for name, value in os.environ.items() if name != "FASTNN_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
