"""The kernels under compute-sanitizer: no access past an array, no race in shared memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUND = 99  # the exit code for errors found
SECONDS = 150  # for one tool
pytestmark = pytest.mark.gpu


def compute_sanitizer() -> str | None:
    """On the PATH, or in a CUDA toolkit where those are mostly installed."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [Path(home) / "bin" for home in homes if home]
    places += sorted(Path("/usr/local").glob("cuda-*/bin"), reverse=True)
    found = (shutil.which("compute-sanitizer", path=str(place)) for place in places)
    return shutil.which("compute-sanitizer") or next(filter(None, found), None)


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``tests.gpu.sanitized`` under that tool; skips where the tool cannot work here."""
    command = compute_sanitizer()
    if command is None:
        pytest.skip("compute-sanitizer is not on the PATH, nor under /usr/local/cuda")
    options = [f"--tool={tool}", f"--error-exitcode={FOUND}", "--print-limit=5"]
    program = [sys.executable, "-m", "tests.gpu.sanitized", *arguments]
    done = subprocess.run(
        [command, *options, *program], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if "Device not supported" in done.stdout + done.stderr:
        pytest.skip("compute-sanitizer does not support this device, or its driver hides what it needs")
    return done


def said(done: subprocess.CompletedProcess[str]) -> str:
    return f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_sanitizer_finds_nothing_in_the_kernels(tool: str) -> None:
    done = run(tool)
    assert done.returncode == 0, said(done)
    assert "kernels, none of them left" in done.stdout, said(done)


@pytest.mark.parametrize(("tool", "mistake"), [("memcheck", "past-the-end"), ("racecheck", "race")])
def test_the_sanitizer_finds_a_mistake_that_is_there(tool: str, mistake: str) -> None:
    done = run(tool, mistake)
    assert done.returncode == FOUND, said(done)
