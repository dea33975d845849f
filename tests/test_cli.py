"""The command: what each subcommand prints and leaves, and that every mistake is one line on stderr."""

from __future__ import annotations

import builtins
import dataclasses
import json
import sys

import numpy as np
import pytest

import fastnn
from fastnn import experiments, warmup
from fastnn.experiments import Search, report

typer_testing = pytest.importorskip("typer.testing")
from fastnn import cli  # noqa: E402
from fastnn.cli.app import app  # noqa: E402


@pytest.fixture(autouse=True)
def _backend_and_threads_as_before():
    backend, threads = fastnn.get_backend().name, fastnn.get_num_threads()
    yield
    fastnn.set_backend(backend)
    fastnn.set_num_threads(threads)


def run(*words):
    return typer_testing.CliRunner().invoke(app, [str(word) for word in words])


def assert_one_line(result, code, *parts):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["train", "mnist-gan"], 2, ["unknown experiment 'mnist-gan'", "mnist-mlp"]),
        (["train", "mnist-mlp", "--variant", "best"], 2, ["no variant 'best'", "tuned"]),
        (["train", "mnist-mlp", "--backend", "torch"], 2, ["unknown backend 'torch'", "numba"]),
        (["train", "mnist-mlp", "--threads", 0], 2, ["threads"]),
        (["train", "mnist-mlp", "--epochs", "many"], 2, ["--epochs"]),
        (["train", "mnist-mlp", "--batch-size", 0], 2, ["--batch-size"]),
        (["train", "mnist-mlp", "--speed", 3], 2, ["--speed"]),
        (["train", "mnist-mlp", "--set", "depth=3"], 2, ["no setting 'depth'", "hidden"]),
        (["train", "mnist-mlp", "--set", "hidden"], 2, ["NAME=VALUE", "'hidden'"]),
        (["train", "mnist-mlp", "--set", "hidden=few"], 2, ["whole number", "'few'"]),
        (["train", "mnist-lenet", "--hidden", 3], 2, ["no setting 'hidden'"]),
        (["reproduce", "mnist-mlp/best"], 2, ["no variant 'best'", "tuned"]),
        (["search", "mnist-mlp"], 2, ["mnist-mlp proposes no search", "fastnn sweep"]),
        (["search", "cifar10-clr", "--kind", "odd"], 2, ["no search 'odd'", "coarse, fine"]),
        (["search", "cifar10-clr", "--jobs", 0], 2, ["--jobs"]),
        (["sweep", "mnist-mlp"], 2, ["--lr 0.1,0.01"]),
        (["sweep", "mnist-mlp", "--lr", "0.1,fast"], 2, ["lr of mnist-mlp is a number, not 'fast'"]),
        (["experiments", "--out", "{tmp}", "--write", "{tmp}/none.md"], 1, ["none.md"]),
        (["train"], 2, ["name"]),
        (["fly"], 2, ["fly"]),
        (["data", "get", "imagenet"], 2, ["unknown set 'imagenet'", "mnist"]),
        (
            ["train", "mnist-mlp", "--data", "/nowhere", "--out", "{tmp}"],
            1,
            ["mnist", "/nowhere", "fastnn data get"],
        ),
    ],
)
def test_mistakes_are_one_line_on_stderr(words, code, parts, tmp_path):
    assert_one_line(run(*(str(word).replace("{tmp}", str(tmp_path)) for word in words)), code, *parts)


def test_unavailable_backend_is_one_line_with_the_reason():
    reason = fastnn.available_backends()["cupy"]
    if reason is None:
        pytest.skip("cupy can run here")
    assert_one_line(run("train", "mnist-mlp", "--backend", "cupy"), 1, reason[:40])


def test_unexpected_error_is_one_line_and_debug_shows_where(monkeypatch):
    def explode(name):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(experiments, "get", explode)
    assert_one_line(run("train", "mnist-mlp"), 1, "RuntimeError: two lines", "--debug")
    for words in (["--debug", "train", "mnist-mlp"], ["train", "mnist-mlp", "--debug"]):
        assert isinstance(run(*words).exception, RuntimeError)


def test_damaged_data_and_damaged_checkpoint_are_one_line(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{stem}-ubyte.gz").write_bytes(b"no gzip")
    assert_one_line(run("train", "mnist-mlp", "--data", tmp_path, "--out", tmp_path / "o"), 1, "ubyte.gz")


def test_no_command_prints_help_and_version_is_the_package_s():
    assert "train" in run().stdout
    assert run().exit_code == 0
    assert run("--version").stdout.strip() == fastnn.__version__


def test_info_names_processor_threads_backends_versions_and_folders(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("FASTNN_DATA", "/some/data")
    result = run("info")
    assert result.exit_code == 0, result.output
    for part in (
        "processor",
        "threads",
        "tiles",
        "backend numpy",
        "kernel cache",
        np.__version__,
        "/some/data",
    ):
        assert part in result.stdout
    reason = fastnn.available_backends()["cupy"]
    said = " ".join(result.stdout.split())  # the table breaks lines
    assert (reason or "available") in said
    assert "nowhere" not in said  # the kernels have a cache
    assert f"backend {fastnn.get_backend().name}" in result.stdout.partition("in use")[0]


def test_train_writes_its_results_and_says_test_accuracy_and_wall_time(tmp_path, data_root):
    words = ["train", "mnist-mlp", "--variant", "tuned-2000", "--data", data_root, "--out", tmp_path]
    result = run(
        *words, "--epochs", 2, "--lr", 0.005, "--batch-size", 50, "--seed", 7, "--threads", 1, "--confusion"
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    written = json.loads((tmp_path / "result.json").read_text())
    assert f"test accuracy {100 * written['accuracy']['test']:.2f} %" in lines[-1]
    assert "wall time" in lines[-1]
    assert "published: 5.55 s" in lines[-1]
    assert written["settings"]["lr"] == 0.005
    assert written["settings"]["batch_size"] == 50
    assert written["settings"]["examples"] == 2000
    assert written["seed"] == 7
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {
        "history.json",
        "weights.npz",
        "curves.png",
        "result.json",
        "checkpoint.npz",
        "confusion.png",
    }

    result = run(*words, "--epochs", 3, "--lr", 0.005, "--batch-size", 50, "--resume")
    assert "epoch 3/3" in result.stdout
    assert "epoch 2/3" not in result.stdout


def test_train_takes_any_setting_and_shows_the_confusion_matrix(tmp_path, data_root):
    words = ["--variant", "tuned-2000", "--data", data_root, "--out", tmp_path, "--epochs", 1]
    result = run("train", "mnist-mlp", *words, "--hidden", 20, "--set", "l2=0.5", "--confusion")
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["settings"]["hidden"] == 20
    assert written["settings"]["l2"] == 0.5
    nine = written["confusion"][9]
    row = next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["9"])
    assert row[1:] == [f"{100 * count / sum(nine):.2f}" for count in nine]


def test_weights_are_loaded_if_there_and_trained_if_not(tmp_path, data_root):
    file, out = tmp_path / "MLP_weights.npz", tmp_path / "out"
    words = ["train", "mnist-mlp", "--variant", "tuned-2000", "--data", data_root, "--out", out]
    trained = run(*words, "--weights", file, "--epochs", 1)
    assert trained.exit_code == 0, trained.output
    assert "epoch 1/1" in trained.stdout
    assert file.read_bytes() == (out / "weights.npz").read_bytes()
    record = (out / "result.json").read_text()

    loaded = run(*words, "--weights", file, "--draw-weights")
    assert loaded.exit_code == 0, loaded.output
    assert "epoch" not in loaded.stdout
    assert f"weights loaded from {file}" in loaded.stdout
    accuracy = f"test accuracy {100 * json.loads(record)['accuracy']['test']:.2f} %"
    assert accuracy in trained.stdout
    assert accuracy in loaded.stdout
    assert (out / "weights.png").exists()
    assert (out / "result.json").read_text() == record


def test_reproduce_trains_what_is_missing_and_experiments_compares_it_with_the_published(tmp_path, data_root):
    out, page = tmp_path / "out", tmp_path / "page.md"
    words = ["reproduce", "mnist-mlp/tuned-2000", "--quick", "--data", data_root, "--out", out]
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert "mnist-mlp, tuned-2000, seed 0" in first.stdout
    assert "epoch 70/70" in first.stdout  # short enough to be run in full
    assert "epoch 70/70" not in run(*words).stdout

    page.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    compared = run("experiments", "--out", out, "--write", page)
    assert compared.exit_code == 0, compared.output
    row = next(line.split() for line in compared.stdout.splitlines() if "tuned-2000" in line)
    result = json.loads(next(out.rglob("result.json")).read_text())
    accuracy = [f"{100 * result['accuracy'][part]:.2f}" for part in ("test", "validation", "train")]
    assert row[:8] == [
        "mnist-mlp",
        "tuned-2000",
        "1",
        accuracy[0],
        accuracy[1],
        "88.00",
        accuracy[2],
        "98.00",
    ]
    assert row[-1] == "yes"

    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert accuracy[0] in text
    picture = tmp_path / "page" / "mnist-mlp-tuned-2000-curves.png"
    assert f"]({picture.relative_to(tmp_path)})" in text
    assert 3000 < picture.stat().st_size <= 60_000
    page.write_text("no markers")
    assert_one_line(run("experiments", "--out", out, "--write", page), 2, "needs the lines")


def test_sweep_tries_every_combination_and_ranks_them(tmp_path, data_root):
    pytest.importorskip("optuna")
    words = ["sweep", "mnist-mlp", "--variant", "tuned-2000", "--data", data_root, "--out", tmp_path]
    result = run(*words, "--epochs", 2, "--lr", "0.01,1e-6", "--hidden", "10,20", "--set", "batch-size=100")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert sum(line.startswith("trial ") for line in lines) == 4
    header = next(i for i, line in enumerate(lines) if line.split()[:1] == ["rank"])
    ranked = [line.split() for line in lines[header + 1 : header + 5]]
    assert {(row[1], row[2]) for row in ranked} == {(lr, n) for lr in ("0.01", "1e-06") for n in ("10", "20")}
    assert [row[1] for row in ranked[:2]] == ["0.01", "0.01"]  # the other learns nothing
    assert (tmp_path / "ranking.png").exists()


@pytest.mark.parametrize(("kind", "tried"), [(["--kind", "fine"], [0.001, 0.002]), ([], [0.1])])
def test_search_takes_the_kind_asked_for_or_the_first(kind, tried, tmp_path, data_root, monkeypatch):
    pytest.importorskip("optuna")
    searches = {"coarse": Search({"l2": [0.1]}), "fine": Search({"l2": [0.001, 0.002]})}
    experiment = dataclasses.replace(experiments.get("mnist-mlp"), searches=searches)
    monkeypatch.setattr("fastnn.experiments.get", lambda name: experiment)
    words = ["search", "mnist-mlp", *kind, "--data", data_root, "--out", tmp_path]
    result = run(*words, "--epochs", 1, "--set", "examples=500")
    assert result.exit_code == 0, result.output
    ranking = json.loads((tmp_path / "ranking.json").read_text())
    assert sorted(trial["settings"]["l2"] for trial in ranking) == tried


def test_demo_on_a_small_budget_learns_and_leaves_its_files(tmp_path):
    pytest.importorskip("sklearn")
    result = run("demo", "--out", tmp_path, "--epochs", 4, "--repeats", 1)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "weights.npz",
        "history.json",
        "curves.png",
        "misclassified.png",
    }
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["epochs"][-1]["val_accuracy"] > 0.9
    for part in ("epoch", "val accuracy", "test accuracy", "times faster", str(tmp_path)):
        assert part in result.stdout


def test_warmup_calls_every_operation_in_both_precisions():
    with fastnn.use_backend("numpy"):  # the same calls on any backend; here nothing is compiled
        calls = warmup.calls()
        for _, call in calls:
            call()
    titles = [title for title, _ in calls]
    for dtype in ("float32", "float64"):
        for name in fastnn.functional.__all__:
            assert any(title.split()[0] == name and title.endswith(dtype) for title in titles), (name, dtype)


@pytest.mark.parametrize("size", [3, 5])
def test_warmup_s_networks_are_recorded_there_and_back(size):
    with fastnn.use_backend("numba"):
        net = warmup._network(size, np.float32)
        x, grad = np.ones((2, 1, 12, 12), np.float32), np.ones((2, 3), np.float32)
        warmup._record(net, x + np.random.default_rng(0).random(x.shape, np.float32), grad)
    inference, training = net._programs._found.values()
    assert inference._program is not None
    (backward,) = training._backwards.values()
    assert backward._program is not None


def test_warmup_leaves_nothing_to_compile_for_the_networks():
    from fastnn.kernels.cpu import _jit, activation, conv, conv_pool, linear, loss, pool, random, update

    modules = (activation, conv, conv_pool, linear, loss, pool, random, update)

    def compiled():
        kernels = [k for module in modules for k in vars(module).values() if isinstance(k, _jit.Kernel)]
        return sum(len(kernel.compiled.signatures) for kernel in kernels) + len(_jit._keep_alive)

    with fastnn.use_backend("numba"):
        for title, call in warmup.calls():
            if title.endswith("float32"):  # what the network below is of
                call()
        before = compiled()
        assert before > 0
        net = fastnn.Sequential(
            *(fastnn.Conv2d(1, 4, 3, padding=1), fastnn.ReLU(), fastnn.MaxPool2d(2), fastnn.Flatten()),
            *(fastnn.Linear(64, 8), fastnn.Sigmoid(), fastnn.Dropout(0.5), fastnn.Linear(8, 3)),
        )
        x, y = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32), np.arange(20) % 3
        from fastnn.losses import SoftmaxCrossEntropy
        from fastnn.training import Trainer

        trainer = Trainer(
            net, SoftmaxCrossEntropy(), fastnn.optim.SGD(net.parameters(), 0.1, momentum=0.9), progress=False
        )
        trainer.fit(x, y, 4, 8, validation=(x, y))
        assert any(net._programs._found.values())
        assert compiled() == before


def test_warmup_command_reports_where_the_kernels_are(monkeypatch):
    monkeypatch.setattr(warmup, "calls", lambda: [("nothing", lambda: None)])
    result = run("warmup")
    assert result.exit_code == 0, result.output
    assert "1 operations are compiled and cached in" in result.stdout


def test_without_typer_main_says_what_to_install(monkeypatch, capsys):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name in ("typer", "rich"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.err == "the fastnn command needs its extra: pip install 'fastnn-kernels[cli]'\n"
    assert shown.out == ""


def test_main_runs_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastnn", "--version"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == fastnn.__version__
