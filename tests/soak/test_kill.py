"""Training by ``fastnn train``, killed at random moments and resumed: 50 times on one thread, by two runs
side by side with half of them each, and 10 times on two.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.killing import Killed, finish, kill_and_resume, results, start

SHORT = "mnist-mlp --variant tuned-2000 --epochs 50 --batch-size 8 --data"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize(("threads", "kills", "runs"), [(1, 50, 2), (2, 10, 1)])
def test_kills_leave_every_checkpoint_readable_and_the_same_weights(
    threads: int, kills: int, runs: int, tmp_path: Path, data_root: Path
) -> None:
    words = [*SHORT.split(), str(data_root), "--threads", str(threads)]
    # What must be compiled is, before the life of a process is measured.
    finish(start([*words, "--epochs", "1"], tmp_path / "first"))
    assert len(results(tmp_path / "first")[1]) == 250

    def one(run: int) -> Killed:
        return kill_and_resume(words, kills // runs, seed=10 * threads + run, folder=tmp_path / str(run))

    with ThreadPoolExecutor(runs) as pool:
        done = list(pool.map(one, range(runs)))
    print(*done, sep="\n")
    assert sum(each.kills for each in done) == kills
    assert sum(each.saving for each in done) >= kills // 5
    assert sum(each.interrupted for each in done) >= kills // 10
    assert sum(len(each.positions) for each in done) >= kills // 5
