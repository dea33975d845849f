"""Try many settings of an experiment and rank them by validation accuracy; needs Optuna.

All points are chosen first and kept, with their scores, in a journal; then processes take them one by one and
share the cores. So what is tried depends neither on how many processes there are nor on where a search was
stopped and resumed.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fastnn
from fastnn import plots
from fastnn.experiments.base import LogUniform, Search, get
from fastnn.experiments.results import read
from fastnn.experiments.running import run as train
from fastnn.training.checkpoint import write_atomically


@dataclass(frozen=True)
class Trial:
    """One point of a search: the settings tried, and the accuracies (0 to 1) and wall time they led to."""

    number: int
    settings: dict[str, Any]
    validation: float
    test: float
    seconds: float


def run(
    name: str,
    search: Search,
    variant: str | None = None,
    *,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    seed: int = 0,
    jobs: int = 1,
    resume: bool = False,
    report: Callable[[Trial, int], Any] = lambda trial, of: None,
    **settings: Any,
) -> list[Trial]:
    """Train an experiment at each point of a search.

    Parameters
    ----------
    name, variant : str
        See :func:`fastnn.experiments.get`.
    search : Search
    out : path
        Folder of the journal, of a folder for each trial, of ``ranking.json`` and ``ranking.png``.
    data, seed
        See :func:`fastnn.experiments.run`; the points are drawn from `seed` too.
    jobs : int
        How many trials to run at once, each on its share of the threads.
    resume : bool
        Go on with the search in `out`, if there is one; otherwise it is begun anew.
    report : callable
        Called with each finished trial, and how many there are to be.
    **settings
        Changes to the settings of all trials, such as ``epochs=2``.

    Returns
    -------
    list of Trial
        The best first, by validation accuracy.

    Raises
    ------
    ImportError
        Optuna is not installed; the message says what to install.
    ValueError
        A setting is unknown, a number is out of range, or the search to resume is another one.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    experiment, fixed = get(name), {**search.settings, **settings}
    experiment.settings(variant, **dict.fromkeys(search.space, 0))  # refuses what is no setting
    plan = {"name": name, "variant": variant, "seed": seed, "space": repr(search.space)}
    plan["settings"] = json.dumps(experiment.settings(variant, **fixed))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    study = _study(out, search, seed, resume, plan)
    common = {"variant": variant, "data": data, "seed": seed, "progress": False, **fixed}
    waiting = [(t.number, t.params) for t in study.get_trials() if not t.state.is_finished()]
    threads = max(1, fastnn.get_num_threads() // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), _share, (fastnn.get_backend().name, threads)
    ) as pool:
        futures = {
            pool.submit(_train, name, out / f"trial-{number}", {**common, **point}): (number, point)
            for number, point in waiting
        }
        try:
            for future in as_completed(futures):
                number, point = futures[future]
                if future.result()["interrupted"]:
                    raise KeyboardInterrupt
                study.tell(number, future.result()["accuracy"]["validation"])
                report(_trial(out, number, point), len(study.get_trials()))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    trials = [_trial(out, t.number, t.params) for t in study.get_trials()]
    ranked = sorted(trials, key=lambda trial: -trial.validation)
    text = json.dumps([asdict(trial) for trial in ranked], indent=2)
    write_atomically(out / "ranking.json", lambda file: file.write(text.encode()))
    if find_spec("matplotlib") is not None:
        points = {key: [trial.settings[key] for trial in ranked] for key in search.space}
        plots.trials(points, [trial.validation for trial in ranked], out / "ranking.png", title=name)
    return ranked


def _study(out: Path, search: Search, seed: int, resume: bool, plan: dict[str, Any]) -> Any:
    """The study in the folder `out`, with all its points."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("a search needs Optuna: pip install 'fastnn-kernels[search]'") from error
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not resume:
        for stale in [*out.glob("journal.log*"), *out.glob("trial-*/checkpoint.npz")]:
            stale.unlink()
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(out / "journal.log"))),
        study_name="search",
        direction="maximize",
        load_if_exists=True,
    )
    if study.user_attrs.get("plan", plan) != plan:
        raise ValueError(
            f"the search in {out} is another one: resume it with its own settings, or choose a folder"
        )
    study.set_user_attr("plan", plan)
    space: dict[str, BaseDistribution] = {}
    grid: dict[str, list[Any]] = {}
    for key, values in search.space.items():
        if isinstance(values, LogUniform):
            space[key] = FloatDistribution(values.low, values.high, log=True)
        else:
            grid[key] = list(values)
            space[key] = CategoricalDistribution(grid[key])
    count = search.draws
    if count is None:
        count = math.prod(map(len, grid.values()))
        study.sampler = optuna.samplers.GridSampler(grid, seed=seed)
    else:  # a call that stopped while it drew must not draw the same again
        study.sampler = optuna.samplers.RandomSampler(seed + len(study.get_trials()))
    while len(study.get_trials(deepcopy=False)) < count:
        study.ask(space)
    study.sampler = optuna.samplers.RandomSampler()  # it has nothing to do when scores come in
    return study


def _share(backend: str, threads: int) -> None:
    """Begin a process: on its share of the cores."""
    fastnn.set_backend(backend)
    fastnn.set_num_threads(threads)


def _train(name: str, out: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    return train(name, out=out, resume=True, **arguments)


def _trial(out: Path, number: int, point: dict[str, Any]) -> Trial:
    result = read(out / f"trial-{number}" / "result.json")
    accuracy = result["accuracy"]
    return Trial(number, point, accuracy["validation"], accuracy["test"], result["seconds"])
