"""A run that is killed goes on to the same weights: a few of the kills that ``soak/test_kill.py`` makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.killing import kill_and_resume

SMALL = "mnist-mlp --variant tuned-2000 --epochs 6 --hidden 8 --backend numpy --data"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_training_killed_at_random_moments_and_resumed_gives_the_same_weights(
    tmp_path: Path, data_root: Path
) -> None:
    done = kill_and_resume([*SMALL.split(), str(data_root)], kills=2, seed=0, folder=tmp_path)
    assert (done.kills, done.saving, done.interrupted) == (2, 1, 1)
