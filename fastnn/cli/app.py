"""The commands. Each is an option list and a call; what they do lives in the modules they import when they
run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fastnn
from fastnn.cli.errors import Commands
from fastnn.cli.experiments import ThreadsOption, choose, experiments, reproduce, search, sweep, train

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train and run small neural networks at the speed of the machine.",
)
data_app = typer.Typer(help="Data sets.")
app.add_typer(data_app, name="data")

for command in (train, experiments, reproduce, search, sweep):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _fastnn(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    if version:
        print(fastnn.__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/demo"),
    epochs: Annotated[int, typer.Option(min=1)] = 15,
    repeats: Annotated[int, typer.Option(min=1, help="Timed epochs of each backend.")] = 5,
) -> None:
    """Train a small network on the digits of scikit-learn and time it on numpy and numba."""
    from fastnn.demo import run

    run(out, epochs=epochs, repeats=repeats, console=Console())


@app.command()
def warmup(threads: ThreadsOption = None) -> None:
    """Compile every kernel of the numba backend, for both precisions, and keep the results on disk."""
    from tqdm import tqdm

    from fastnn.warmup import calls

    choose("numba", threads)
    listed = calls()
    with fastnn.use_backend("numba"), tqdm(listed, leave=False, disable=None) as bar:
        for title, call in bar:
            bar.set_postfix_str(title, refresh=False)
            call()
    print(f"{len(listed)} operations are compiled and cached in {_cache_folder()}")


@app.command()
def info() -> None:
    """Show what fastnn runs on: processor, tile, threads, backends, versions, folders."""
    from fastnn.data import data_root
    from fastnn.experiments.environment import machine, versions

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    where = machine()
    table.add_row("processor", f"{where['processor']}, {where['cpus']} CPUs usable, {where['system']}")
    reasons = fastnn.available_backends()
    if reasons["numba"] is None:
        from fastnn.kernels.cpu import tile

        for key, value in tile.describe().items():
            table.add_row(key.replace("_", " "), _text(value))
        table.add_row("threads", str(fastnn.get_num_threads()))
        table.add_row("kernel cache", _cache_folder())
    try:
        chosen: str | None = fastnn.get_backend().name
    except fastnn.BackendUnavailable:  # the reason stands beside its name
        chosen = None
    for name, reason in reasons.items():
        state = ("available, in use" if name == chosen else "available") if reason is None else reason
        table.add_row(f"backend {name}", escape(state))  # it may name an extra, in brackets
    if reasons["cupy"] is None:
        from fastnn.kernels.cuda import device

        for key, value in device.describe().items():
            table.add_row(key, escape(value))
    packages = ("numpy", "numba", "llvmlite", "cupy-cuda12x", "cupy-cuda13x", "matplotlib", "scikit-learn")
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in versions(packages).items()))
    table.add_row("data", str(data_root()))
    Console().print(table)


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="mnist or cifar10.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data sets; default: FASTNN_DATA.")] = None,
) -> None:
    """Download a data set and verify its checksums."""
    from fastnn import data

    print(f"{name} is in {data.get(name, root)}")


def _cache_folder() -> str:
    """Where Numba keeps the compiled kernels: NUMBA_CACHE_DIR, else beside their sources, else the user's
    cache.
    """
    from fastnn.kernels.cpu import linear
    from fastnn.kernels.cpu._jit import Kernel

    kernels = [value for value in vars(linear).values() if isinstance(value, Kernel)]
    folders = [kernel.compiled.stats.cache_path for kernel in kernels]
    return next((folder for folder in folders if folder), "nowhere: set NUMBA_CACHE_DIR to a writable folder")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
