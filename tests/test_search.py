"""Searches: which points are tried, that an interrupted one goes on, how the trials are ranked and drawn."""

from __future__ import annotations

import json

import pytest

import fastnn
from fastnn import data, experiments
from fastnn.experiments import LogUniform, Search, search

pytest.importorskip("optuna")

DRAWN = Search({"lr": LogUniform(1e-4, 1e-1)}, 2, {"examples": 500, "hidden": 8})
ONE = Search({"lr": [0.02]}, settings={"examples": 500, "hidden": 8})
GRID = Search({"lr": [0.02, 1e-6], "batch_size": [50, 100]}, settings={"examples": 500, "hidden": 8})


@pytest.fixture(scope="module")
def root(data_root):
    try:
        data.load("mnist", data_root)
    except data.DataNotFound as error:
        pytest.skip(str(error))
    return data_root


def run(what, root, out, **options):
    return search.run("mnist-mlp", what, out=out, data=root, epochs=1, **options)


def tried(trials):
    return {trial.number: trial.settings for trial in trials}


def test_trials_are_ranked_by_validation_accuracy_and_leave_their_records(root, tmp_path):
    reported = []
    ranked = run(GRID, root, tmp_path, report=lambda trial, of: reported.append((trial, of)))
    assert len(ranked) == 4
    assert [trial.validation for trial in ranked] == sorted((t.validation for t in ranked), reverse=True)
    assert sorted(reported, key=lambda pair: pair[0].number) == [
        (trial, 4) for trial in sorted(ranked, key=lambda trial: trial.number)
    ]
    combinations = {(trial.settings["lr"], trial.settings["batch_size"]) for trial in ranked}
    assert combinations == {(lr, size) for lr in (0.02, 1e-6) for size in (50, 100)}
    for trial in ranked:
        result = json.loads((tmp_path / f"trial-{trial.number}" / "result.json").read_text())
        assert result["settings"] | trial.settings == result["settings"]
        assert result["settings"]["hidden"] == 8
        assert result["epochs"] == 1
        assert result["accuracy"]["validation"] == trial.validation
        assert result["accuracy"]["test"] == trial.test
    written = json.loads((tmp_path / "ranking.json").read_text())
    assert [trial["number"] for trial in written] == [trial.number for trial in ranked]
    assert (tmp_path / "ranking.png").stat().st_size > 3000


def test_interrupted_search_goes_on_with_the_points_it_had(root, tmp_path):
    whole = run(DRAWN, root, tmp_path / "whole")
    assert all(1e-4 <= trial.settings["lr"] <= 1e-1 for trial in whole)
    assert len({trial.settings["lr"] for trial in whole}) == 2

    def stop(trial, of):
        done.append(trial.number)
        raise KeyboardInterrupt

    done = []
    with pytest.raises(KeyboardInterrupt):
        run(DRAWN, root, tmp_path / "part", report=stop)
    rest = []
    resumed = run(
        DRAWN, root, tmp_path / "part", resume=True, report=lambda trial, of: rest.append(trial.number)
    )
    assert done[0] not in rest
    assert {*done, *rest} == {0, 1}
    assert tried(resumed) == tried(whole)
    assert [(t.number, t.validation) for t in resumed] == [(t.number, t.validation) for t in whole]

    again = run(DRAWN, root, tmp_path / "part", resume=True, report=stop)  # there is nothing left to report
    assert again == resumed


def test_processes_share_the_threads_and_change_no_result(root, tmp_path):
    threads = fastnn.get_num_threads()
    fastnn.set_num_threads(2)
    try:
        one, two = (run(DRAWN, root, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    finally:
        fastnn.set_num_threads(threads)
    assert [(t.number, t.settings, t.validation) for t in one] == [
        (t.number, t.settings, t.validation) for t in two
    ]
    for jobs, share in ((1, 2), (2, 1)):
        result = json.loads((tmp_path / str(jobs) / "trial-0" / "result.json").read_text())
        assert result["threads"] == share


def test_another_search_is_not_resumed_and_a_fresh_one_forgets_the_old(root, tmp_path):
    run(ONE, root, tmp_path)
    with pytest.raises(ValueError, match="is another one"):
        run(GRID, root, tmp_path, resume=True)
    with pytest.raises(ValueError, match="is another one"):
        run(ONE, root, tmp_path, resume=True, hidden=9)
    assert len(run(DRAWN, root, tmp_path)) == 2


def test_unknown_settings_and_numbers_out_of_range_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="no setting 'depth'"):
        search.run("mnist-mlp", Search({"depth": [1, 2]}), out=tmp_path / "out")
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        search.run("mnist-mlp", GRID, out=tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


def test_searches_of_the_experiments_are_the_published_ones():
    clr, mse = experiments.get("cifar10-clr"), experiments.get("cifar10-mse")
    coarse, fine, grid = clr.searches["coarse"], clr.searches["fine"], mse.searches["grid"]
    assert coarse.space == {"l2": LogUniform(1e-5, 1e-1)}
    assert coarse.draws == 8
    assert fine.space == {"l2": [0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007]}
    for part in (coarse, fine):
        settings = clr.settings(**part.settings)
        steps = settings["epochs"] * settings["examples"] / settings["batch_size"]
        assert settings["batch_size"] == 500
        assert steps == 2 * 2 * settings["step_size"]  # two cycles, each up and down
    best = mse.settings("best")
    assert all(best[key] in values for key, values in grid.space.items())
    assert set(grid.space) == {"epochs", "lr", "decay"}
