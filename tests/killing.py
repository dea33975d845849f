"""A training run, started from the command line and killed with SIGKILL, over and over: what it may leave
behind, and that what comes of it in the end is what an undisturbed run makes.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastnn.training import History, checkpoint

ROOT = Path(__file__).resolve().parents[1]
# The command itself; but it saves after each epoch, however short that was.
COMMAND = """
from fastnn import cli
from fastnn.experiments import running
running._CHECKPOINT_SECONDS = 0.0
cli.main()
"""
FILES = ("checkpoint.npz", "weights.npz", "history.json", "result.json", "curves.png")


@dataclass
class Killed:
    """What happened: all kills, those while a checkpoint was written, those after a Ctrl-C; runs that came
    to their end; the epochs and steps at which checkpoints were found.
    """

    kills: int = 0
    saving: int = 0
    interrupted: int = 0
    ends: int = 0
    positions: set[tuple[int, int]] = field(default_factory=set)


def start(words: list[str], out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", COMMAND, "train", *words, "--out", str(out), "--resume"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(300) == 0


def results(out: Path) -> tuple[dict[str, bytes], list[float]]:
    """The trained weights and the loss of every step, which no kill may change by a bit."""
    with np.load(out / "weights.npz") as archive:
        weights = {name: archive[name].tobytes() for name in archive.files}
    return weights, History.load(out / "history.json").step_loss


def kill_and_resume(words: list[str], kills: int, seed: int, folder: Path) -> Killed:
    """Train as `words` say; then again, killed `kills` times and resumed each time.

    The moments are random in the life of a process. Every third is when, from there on, it next writes a
    checkpoint; some are shortly after a Ctrl-C, on which it writes one too. A run that comes to its end is
    compared with the undisturbed one, and another begun.
    """
    draw, done = random.Random(seed), Killed()
    expected_in, out = folder / "whole", folder / "killed"
    began = time.monotonic()
    finish(start(words, expected_in))
    life = time.monotonic() - began
    expected = results(expected_in)
    while done.kills < kills:
        began = time.monotonic()
        process = start(words, out)
        _disturb(process, done, draw.uniform(0, life), draw.uniform(0, 0.3), out)
        if process.wait(300) == 0:
            _compare(out, expected)
            done.ends += 1
            life = min(life, time.monotonic() - began)  # the first may have been a slow one
            shutil.rmtree(out)
        else:
            assert process.returncode in (-signal.SIGKILL, -signal.SIGINT, 130)
            _check(out, done)
    finish(start(words, out))
    _compare(out, expected)
    done.ends += 1
    return done


def _disturb(process: subprocess.Popen[bytes], done: Killed, delay: float, later: float, out: Path) -> None:
    """Kill the process after `delay`, unless it ends before."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    saving = done.kills % 3 == 0
    interrupted = done.kills % 4 == 1
    if saving:
        while process.poll() is None and not any(out.glob(".checkpoint.npz.*.tmp")):
            time.sleep(1e-4)  # it is there for a few milliseconds
    elif interrupted:
        process.send_signal(signal.SIGINT)
        time.sleep(later)
    process.kill()
    if process.wait() == -signal.SIGKILL:
        done.kills += 1
        done.saving += saving
        done.interrupted += interrupted and not saving


def _check(out: Path, done: Killed) -> None:
    """Whatever a killed process has left is whole, and there is little of it."""
    left = {path.name for path in out.iterdir()} if out.exists() else set()
    strays = left - set(FILES)
    assert len(strays) <= len(FILES)
    assert len({name.rsplit(".", 2)[0] for name in strays}) == len(strays), strays
    assert all(name.startswith(".") and name.endswith(".tmp") for name in strays), strays
    if "checkpoint.npz" in left:
        position = checkpoint.load(out / "checkpoint.npz")["position"]
        done.positions.add((position["epoch"], position["step"]))
    if "weights.npz" in left:
        assert len(results(out)[0]) > 0  # the history was written before
    if "curves.png" in left:
        assert (out / "curves.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    if "result.json" in left:
        assert json.loads((out / "result.json").read_bytes())["accuracy"]


def _compare(out: Path, expected: tuple[dict[str, bytes], list[float]]) -> None:
    """A finished run's results are those of the undisturbed one, and nothing else is left."""
    assert results(out) == expected
    assert {path.name for path in out.iterdir()} == set(FILES)
