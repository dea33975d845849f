"""Arrays of more than 2³¹ numbers: indices are computed in 64 bits. ``large.py`` says how without the memory.

Here those that touch few pages, and one map; ``soak/test_large.py`` makes all, and some in real memory.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastnn
import fastnn.functional as F
from tests.backends import on_backend  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="one piece of memory is mapped many times by memfd"
)


def run_large(names: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.large", *names]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)


@linux
def test_indices_reach_beyond_2_to_the_31() -> None:
    names = ["a_map", "convolution_of_one_image", "convolution_of_several_images", "pooled_convolution"]
    done = run_large([*names, "max_pooling", "average_pooling"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_image_with_more_pixels_than_indices_count_is_refused(backend: str) -> None:
    x = as_strided(np.ones(1, np.float32), (1, 1, 46341, 46341), (4, 4, 0, 0))
    with pytest.raises(ValueError, match=r"46341.*int32"):
        F.max_pool2d(x, 2)
    with pytest.raises(ValueError, match=r"46341.*int32"):
        F.conv2d_max_pool2d(x, np.ones((1, 1, 1, 1), np.float32), None, pool_size=2)
    assert fastnn.get_backend().name == backend
