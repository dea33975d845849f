"""What a machine with a GPU runs, run without one: there it must not fail for a missing package or a typo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pretended

ROOT = Path(__file__).resolve().parents[1]
# Of what fastnn can use, what a machine with CuPy may not have
MISSING = ("numba", "llvmlite", "hypothesis", "scipy", "sklearn", "matplotlib", "pooch", "typer", "rich")


def bare_pytest(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """pytest in a process in which those cannot be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({MISSING!r}))\n"
        "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *options],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(pretended.WHY_NOT is not None, reason=str(pretended.WHY_NOT))
def test_the_tests_of_the_gpu_pass_on_a_pretended_one_with_no_package_but_cupy() -> None:
    options = ["-p", "tests.pretended", "-m", "gpu and not large", "tests/gpu", "-rs"]
    done = bare_pytest(*options, FASTNN_GPU_CALLS="1")
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 200
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all("compute-sanitizer" in line or "safetensors" in line for line in skipped), skipped


def test_without_a_gpu_each_test_of_the_gpu_is_skipped_with_the_reason() -> None:
    import fastnn

    reason = fastnn.available_backends()["cupy"]
    if reason is None:
        pytest.skip("there is a GPU here")
    done = bare_pytest("-m", "gpu", "tests/gpu", "-rs")
    assert done.returncode == 0, done.stdout
    assert reason[:60] in done.stdout
    assert "passed" not in done.stdout


def test_plain_pytest_leaves_the_tests_of_the_gpu_out() -> None:
    done = bare_pytest("--collect-only", "tests/gpu")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout
    listed = bare_pytest("--collect-only", "-m", "gpu", "tests/gpu")
    assert listed.returncode == 0, listed.stdout
    assert "tests/gpu/test_kernels.py" in listed.stdout


def test_the_benchmarks_of_the_gpu_name_their_options_without_other_packages() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({MISSING!r}))\n"
        "import runpy; sys.argv = ['bench.gpu', '--help']; runpy.run_module('bench.gpu', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--budget" in done.stdout


@pytest.mark.parametrize("target", ["test-gpu", "bench-gpu", "gpu"])
def test_make_with_an_interpreter_of_its_own_makes_no_environment(target: str) -> None:
    command = ["make", "-n", target, "PYTHON=python3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".venv" not in done.stdout
    assert "python3 -m" in done.stdout
