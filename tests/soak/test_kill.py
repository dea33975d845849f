"""Training by ``fastnn train``, killed at random moments and resumed: 50 times on one thread, 10 on two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.killing import finish, kill_and_resume, results, start

SHORT = "mnist-mlp --variant tuned-2000 --epochs 50 --batch-size 8 --data"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(("threads", "kills"), [(1, 50), (2, 10)])
def test_kills_leave_every_checkpoint_readable_and_the_same_weights(
    threads: int, kills: int, tmp_path: Path, data_root: Path
) -> None:
    words = [*SHORT.split(), str(data_root), "--threads", str(threads)]
    # What must be compiled is, before the life of a process is measured.
    finish(start([*words, "--epochs", "1"], tmp_path / "first"))
    assert len(results(tmp_path / "first")[1]) == 250
    done = kill_and_resume(words, kills, seed=threads, folder=tmp_path)
    print(done)
    assert done.kills == kills
    assert done.saving >= kills // 5
    assert done.interrupted >= kills // 10
    assert len(done.positions) >= kills // 5
