"""The commands around the published networks: train one, compare all, reproduce all, search and sweep.

A setting that has no option of its own is changed by ``--set NAME=VALUE``, in every command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import fastnn

NameArgument = Annotated[str, typer.Argument(help="Such as mnist-mlp; `fastnn experiments` lists them.")]
VariantOption = Annotated[str | None, typer.Option(help="A published configuration; default: the first.")]
BackendOption = Annotated[
    str | None, typer.Option(help="numpy, numba or cupy; default: FASTNN_BACKEND, else numba.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Threads of the numba backend; default: FASTNN_NUM_THREADS, else all CPUs.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the weights, shuffles and dropout.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of the data sets; default: FASTNN_DATA.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from what is in the folder.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated.")
]
EpochsOption = Annotated[int | None, typer.Option(min=0)]
JobsOption = Annotated[int, typer.Option(min=1, help="Trials at once; they share the threads.")]


def train(
    name: NameArgument,
    variant: VariantOption = None,
    backend: BackendOption = None,
    epochs: EpochsOption = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Units of the hidden layer.")] = None,
    settings: SetOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; default: out/NAME/VARIANT/seed-SEED.")
    ] = None,
    resume: ResumeOption = False,
    weights: Annotated[
        Path | None,
        typer.Option(help="Load the network from this file if it is there; else train, and save it."),
    ] = None,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Show and draw the confusion matrix.")
    ] = False,
    draw_weights: Annotated[
        bool, typer.Option("--draw-weights", help="Draw the first layer's weights.")
    ] = False,
    mistakes: Annotated[bool, typer.Option("--mistakes", help="Draw misclassified images.")] = False,
    draw_schedule: Annotated[bool, typer.Option("--draw-schedule", help="Draw the learning rate.")] = False,
) -> None:
    """Train a published network, or a variation of it, and write its results into a folder."""
    from fastnn import experiments

    choose(backend, threads)
    experiment = experiments.get(name)
    variant = variant or next(iter(experiment.variants))
    out = out or Path("out", name, variant, f"seed-{seed}")
    asked = {
        "confusion": confusion,
        "weights": draw_weights,
        "mistakes": mistakes,
        "schedule": draw_schedule,
    }
    named = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "hidden": hidden}
    result = experiments.run(
        name,
        variant,
        out=out,
        data=data,
        seed=seed,
        resume=resume,
        pictures=[picture for picture, wanted in asked.items() if wanted],
        weights=weights,
        **named | _settings(experiment, settings),
    )
    if confusion:
        _print_confusion(result)
    print(_summary(result, out))
    if result["interrupted"]:
        raise typer.Exit(130)


def experiments(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("out"),
    write: Annotated[
        Path | None, typer.Option(metavar="PAGE", help="Put table and pictures into this Markdown page.")
    ] = None,
) -> None:
    """Compare what was published with the results of the runs made here."""
    from fastnn.experiments import report, results

    rows = results.rows(out)
    if write is not None:
        report.write(rows, out, write)
    table = Table(*results.COLUMNS, box=None, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row.cells())
    _wide(Console()).print(table)


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME[/VARIANT]]...", help="Default: everything published.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each; default: 3, or 1 if quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few epochs where the full run is long.")] = False,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; default: out, or out/quick if quick.")
    ] = None,
) -> None:
    """Make the published runs that are not in the folder yet, from where the last call stopped; compare."""
    from fastnn.experiments.reproducing import reproduce

    choose(backend, threads)
    out = out or Path("out/quick" if quick else "out")
    done = reproduce(names or (), out=out, data=data, seeds=seeds or (1 if quick else 3), quick=quick)
    experiments(out)
    if not done:
        raise typer.Exit(130)


def search(
    name: NameArgument,
    kind: Annotated[str | None, typer.Option(help="Which of its searches; default: the first.")] = None,
    jobs: JobsOption = 1,
    epochs: EpochsOption = None,
    settings: SetOption = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: out/search/NAME/KIND.")] = None,
    resume: ResumeOption = False,
) -> None:
    """Try the settings that an experiment proposes, and rank them by validation accuracy."""
    from fastnn.experiments import get

    choose(backend, threads)
    experiment = get(name)
    if not experiment.searches:
        raise ValueError(f"{name} proposes no search: `fastnn sweep` tries settings of your own")
    kind = kind or next(iter(experiment.searches))
    if kind not in experiment.searches:
        raise ValueError(f"{name} has no search {kind!r}: choose one of {', '.join(experiment.searches)}")
    out = out or Path("out/search", name, kind)
    changed = {"epochs": epochs} | _settings(experiment, settings)
    _search(name, experiment.searches[kind], None, out, data, seed, jobs, resume, changed)


def sweep(
    name: NameArgument,
    variant: VariantOption = None,
    epochs: EpochsOption = None,
    batch_size: Annotated[str | None, typer.Option(metavar="N,N,...")] = None,
    lr: Annotated[str | None, typer.Option(metavar="X,X,...", help="Learning rates.")] = None,
    hidden: Annotated[str | None, typer.Option(metavar="N,N,...", help="Units of the hidden layer.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE,VALUE,...", help="Any other setting; may be repeated."),
    ] = None,
    jobs: JobsOption = 1,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: out/sweep/NAME/VARIANT.")] = None,
    resume: ResumeOption = False,
) -> None:
    """Train with every combination of the values given, and rank them by validation accuracy."""
    from fastnn.experiments import Search, get

    choose(backend, threads)
    experiment = get(name)
    variant = variant or next(iter(experiment.variants))
    named = {"batch_size": batch_size, "lr": lr, "hidden": hidden}
    listed = {key: values for key, values in named.items() if values is not None} | _pairs(settings)
    if not listed:
        raise ValueError("give values to sweep over, such as --lr 0.1,0.01")
    space = {
        key: [experiment.parse(key, text) for text in values.split(",")] for key, values in listed.items()
    }
    out = out or Path("out/sweep", name, variant)
    _search(name, Search(space), variant, out, data, seed, jobs, resume, {"epochs": epochs})


def _search(
    name: str,
    search: Any,
    variant: str | None,
    out: Path,
    data: Path | None,
    seed: int,
    jobs: int,
    resume: bool,
    changed: dict[str, Any],
) -> None:
    from fastnn.experiments.search import run

    def report(trial: Any, of: int) -> None:
        values = "  ".join(f"{key} {_short(value)}" for key, value in trial.settings.items())
        print(
            f"trial {trial.number + 1}/{of}  {values}  {_cells(trial)[0]} %  {trial.seconds:.1f} s",
            flush=True,
        )

    ranked = run(
        name,
        search,
        variant,
        out=out,
        data=data,
        seed=seed,
        jobs=jobs,
        resume=resume,
        report=report,
        **changed,
    )
    table = Table("rank", *search.space, "validation", "test", "seconds", box=None, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for rank, trial in enumerate(ranked, 1):
        table.add_row(str(rank), *map(_short, trial.settings.values()), *_cells(trial))
    _wide(Console()).print(table)
    print(f"everything is in {out}")


def _cells(trial: Any) -> list[str]:
    return [f"{100 * trial.validation:.2f}", f"{100 * trial.test:.2f}", f"{trial.seconds:.1f}"]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pairs(settings: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` as given to --set; a name may be written with dashes."""
    pairs = {}
    for text in settings or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, not {text!r}")
        pairs[name.replace("-", "_")] = value
    return pairs


def _settings(experiment: Any, settings: list[str] | None) -> dict[str, Any]:
    return {key: experiment.parse(key, text) for key, text in _pairs(settings).items()}


def _summary(result: dict[str, Any], out: Path) -> str:
    """Test accuracy and wall time in one line, beside the published ones."""
    published = result["published"]
    test = f"test accuracy {100 * result['accuracy']['test']:.2f} %"
    if published["test"] is not None:
        test += f" (published: {published['test']:.2f} %)"
    if result["loaded"] is not None:
        return f"{test}, weights loaded from {result['loaded']}"
    seconds = f"wall time {result['seconds']:.2f} s"
    if published["seconds"] is not None:
        seconds += f" (published: {published['seconds']:.2f} s)"
    return f"{test}, {seconds}; everything is in {out}"


def _print_confusion(result: dict[str, Any]) -> None:
    """Per cent of each true class, a row each."""
    table = Table("true", *result["classes"], title="predicted, per cent of each true class", box=None)
    for name, counts in zip(result["classes"], result["confusion"], strict=True):
        table.add_row(name, *(f"{100 * count / max(1, sum(counts)):.2f}" for count in counts))
    for column in table.columns:
        column.justify = "right"
    _wide(Console()).print(table)


def _wide(console: Console) -> Console:
    """`console`, or where it is no terminal one that breaks no line of a table."""
    return console if console.is_terminal else Console(width=200)


def choose(backend: str | None, threads: int | None) -> None:
    """Put the backend and the number of threads in force that the command line names."""
    if backend is not None:
        fastnn.set_backend(backend)
    if threads is not None:
        fastnn.set_num_threads(threads)
