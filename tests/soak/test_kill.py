"""Training through ``fastnn train``, killed at 50 random moments and resumed, on one thread and on two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.killing import kill_and_resume

SHORT = "mnist-mlp --variant tuned-2000 --epochs 24 --data"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("threads", [1, 2])
def test_50_kills_leave_every_checkpoint_readable_and_the_same_weights(
    threads: int, tmp_path: Path, data_root: Path
) -> None:
    words = [*SHORT.split(), str(data_root), "--threads", str(threads)]
    done = kill_and_resume(words, kills=50, seed=threads, folder=tmp_path)
    print(done)
    assert done.kills == 50
    assert done.saving > 10
    assert done.interrupted > 5
    assert len(done.positions) > 10
    assert any(step > 0 for _, step in done.positions)  # within an epoch: a Ctrl-C saves there
