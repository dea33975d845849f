"""Fuzz every reader of files: ``make fuzz``, or ``python -m tests.fuzz --seconds 60 --reader cifar``.

Each reader has a process of its own. In it atheris (libFuzzer, guided by the coverage of Python code) mutates
the reader's first files towards code not yet reached; where atheris is not installed, Hypothesis draws from
``mutations.py`` for as long. Inputs that reached something new, and findings, are kept below ``out/fuzz``: a
later run goes on from them, and ``python -m tests.fuzz --reader NAME --input FILE`` does what a finding did.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import re
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the modules that atheris is to watch are imported in its presence
    from tests.fuzz.readers import Reader

OUT = Path("out/fuzz")
# Their branches guide atheris.
WATCHED = ["fastnn.data", "fastnn.layers.archive", "fastnn.layers.serialize", "fastnn.training", "numpy.lib"]
WATCHED += ["zipfile", "gzip", "pickletools", "json"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers of files.")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--reader", action="append", help="one of them; may be repeated (default: all)")
    parser.add_argument("--input", type=Path, help="read this input only, once")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return fuzz(options.reader[0], options.seconds)
    from tests.fuzz.readers import readers

    with tempfile.TemporaryDirectory() as folder:
        table = readers(Path(folder))
        if unknown := set(options.reader or ()) - set(table):
            parser.error(f"no reader {', '.join(unknown)}: there are {', '.join(table)}")
        if options.input:
            valid = attempt(table[options.reader[0]], options.input.read_bytes(), Path(folder), counted=True)
            print("read" if valid else "refused, as it should be")
            return 0
    if find_spec("atheris") is None:
        print("atheris is not installed (has it a wheel for this Python?): Hypothesis alone does the fuzzing")
    return sum([report(name, options.seconds) for name in options.reader or table]) and 1


def report(name: str, seconds: int) -> bool:
    """Fuzz one reader in a process of its own and print what came of it; whether that was a finding."""
    kept = OUT / name
    for folder in ("corpus", "findings"):
        (kept / folder).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", "--child", "--reader", name, "--seconds", str(seconds)]
    with (kept / "log").open("w+") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        log.seek(0)
        text = log.read()
    runs = re.search(r"Done (\d+) runs? in (\d+) second", text) or re.search(
        r"executed_units:\s*(\d+)()", text
    )
    done = f"{int(runs[1]):>10,} executions" if runs else "stopped before its end"
    print(f"{name:<20} {done}  {len(list((kept / 'corpus').iterdir())):>6,} inputs kept", end="  ")
    print("nothing found" if code == 0 else f"FOUND SOMETHING (exit code {code}): see {kept}/log", flush=True)
    return code != 0


def fuzz(name: str, seconds: int) -> int:
    """Fuzz one reader in this process, and print how often it was called."""
    from tests.files import little_memory

    with tempfile.TemporaryDirectory() as folder, little_memory(2**29):
        if find_spec("atheris") is not None:
            with_atheris(name, seconds, Path(folder))
        else:
            with_hypothesis(name, seconds, Path(folder))
    return 0


def attempt(reader: Reader, content: bytes, folder: Path, counted: bool) -> bool:
    """Read one input; with its memory counted, which takes longer than reading."""
    from tests.files import peak_of

    valid = []
    if counted:
        assert peak_of(lambda: valid.append(reader.try_(content, folder))) < reader.room
    else:
        valid.append(reader.try_(content, folder))
    return valid[0]


def with_atheris(name: str, seconds: int, folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=WATCHED):
        reader = importlib.import_module("tests.fuzz.readers").readers(folder)[name]
    kept, numbers = OUT / name, itertools.count()
    for number, seed in enumerate(reader.seeds):
        (kept / "corpus" / f"seed-{number}").write_bytes(seed)

    def run(content: bytes) -> None:
        attempt(reader, content, folder, counted=next(numbers) % 16 == 0)

    limits = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=20", "-rss_limit_mb=1024"]
    where = [f"-artifact_prefix={kept}/findings/", "-print_final_stats=1", str(kept / "corpus")]
    atheris.Setup([sys.argv[0], *limits, *where], run)
    atheris.Fuzz()


def with_hypothesis(name: str, seconds: int, folder: Path) -> None:
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.mutations import mutated
    from tests.fuzz.readers import readers

    reader = readers(folder)[name]
    began, runs = time.monotonic(), 0

    @settings(max_examples=1000, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutated(reader.seeds))
    def run(content: bytes) -> None:
        nonlocal runs
        runs += 1
        try:
            attempt(reader, content, folder, counted=runs % 16 == 0)
        except BaseException:
            (OUT / name / "findings" / "hypothesis").write_bytes(content)
            raise

    while time.monotonic() - began < seconds:
        run()
    print(f"Done {runs} runs in {time.monotonic() - began:.0f} second(s)")


if __name__ == "__main__":
    sys.exit(main())
