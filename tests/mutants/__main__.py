"""Break one line of a kernel at a time, on a copy of the tree, and see that its tests fail.

``python -m tests.mutants [WORD ...]`` (``make mutants``) runs those whose file or text holds one of the
words, two at a time. One that no test notices is named at the end, and the exit status is 1: it wants a test.

Most of the time would go into compiling kernels that did not change, since the key of the cache is the source
of the whole room. In the copy it is therefore a constant, and before each run only what lies in the changed
file, or in one that imports it, is taken out of the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants import Mutant, cpu, cuda, reference

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = [*reference.MUTANTS, *cpu.MUTANTS, *cuda.MUTANTS]
JOBS, LIMIT = 2, 300  # copies of the tree; seconds, after which a mutant that hangs counts as noticed
# In the copy: one key for all states of the room; and Hypothesis is content with any example that fails.
CHANGES = [
    (
        "kernels/cpu/_jit.py",
        "    digest = hashlib.sha256()\n",
        '    return "any"\n    digest = hashlib.sha256()\n',
    ),
    (
        "tests/conftest.py",
        "deadline=None, max_examples=40,",
        "deadline=None, max_examples=40, phases=(Phase.explicit, Phase.generate),",
    ),
    ("tests/conftest.py", "import HealthCheck, settings", "import HealthCheck, Phase, settings"),
]


class Copy:
    """A copy of the tree, and what its processes compiled before anything was broken."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.kept, self.used = folder / "tree", folder / "kept", folder / "used"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "out", "build", "dist", "*.egg-info")
        shutil.copytree(ROOT, self.tree, ignore=ignored)
        for file, old, new in CHANGES:
            path = self.tree / file
            path.write_text(replaced(path.read_text(), old, new, file))
        self.kept.mkdir()

    def pytest(self, tests: tuple[str, ...], cache: Path) -> int | None:
        """The exit status of a run that stops at the first failure; None, if it had to be stopped."""
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(command, cwd=self.tree, env=environment, capture_output=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.output = f"no end after {LIMIT} s"
            return None
        self.output = (done.stdout + done.stderr).decode()
        return done.returncode

    def noticed(self, mutant: Mutant) -> bool:
        """Whether a test fails of the tree with that change; RuntimeError if no test came to run."""
        path = self.tree / mutant.file
        whole, stamp = path.read_text(), path.stat()
        shutil.rmtree(self.used, ignore_errors=True)
        shutil.copytree(self.kept, self.used, copy_function=os.link)
        stale = importers(path)
        for compiled in list(self.used.rglob("*.nb[ci]")):
            if compiled.name.split(".")[0] in stale:
                compiled.unlink()
        try:
            path.write_text(replaced(whole, mutant.old, mutant.new, mutant.file))
            code = self.pytest(mutant.tests, self.used)
        finally:
            path.write_text(whole)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        if code is not None and code > 1:
            raise RuntimeError(f"{title(mutant)}: pytest ended with {code}:\n{self.output[-3000:]}")
        return code != 0


def replaced(text: str, old: str, new: str, file: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{file} has {text.count(old)} times, not once:\n{old}")
    return text.replace(old, new)


def importers(path: Path) -> set[str]:
    """The stems of files that may hold compiled code of `path`: it, who imports it, tests that compile."""
    if path.parent.name != "cpu":
        return set()
    imports = {}
    for file in path.parent.glob("*.py"):
        text = file.read_text()
        listed = ", ".join(re.findall(r"^from \. import (.*)", text, re.M))
        imports[file.stem] = {*re.findall(r"^from \.(\w+) import", text, re.M), *re.findall(r"\w+", listed)}
    found = {path.stem}
    while more := {stem for stem, names in imports.items() if names & found} - found:
        found |= more
    return found | {file.stem for file in (ROOT / "tests").glob("*.py") if "jit" in file.read_text()}


def title(mutant: Mutant) -> str:
    old, new = (" / ".join(line.strip() for line in text.splitlines()) for text in mutant[1:3])
    return f"{mutant.file}: {old}  ->  {new or 'nothing'}"


def chosen(words: list[str]) -> list[Mutant]:
    return [m for m in MUTANTS if not words or any(word in m.file or word in m.old for word in words)]


def main(words: list[str]) -> int:
    mutants = chosen(words)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for i in range(JOBS):
            copies.put(Copy(Path(folder, str(i))))

        def sound(copy: Copy) -> str:
            """What fails of the copy as it is."""
            for tests in sorted({mutant.tests for mutant in mutants}):
                if copy.pytest(tests, copy.kept) != 0:
                    return f"{' '.join(tests)} fails of what is not broken:\n{copy.output[-3000:]}"
            return ""

        def one(mutant: Mutant) -> tuple[Mutant, str]:
            copy, begin = copies.get(), time.perf_counter()
            try:
                verdict = "noticed" if copy.noticed(mutant) else "NOT NOTICED"
            finally:
                copies.put(copy)
            print(f"{verdict} in {time.perf_counter() - begin:3.0f} s  {title(mutant)}", flush=True)
            return mutant, verdict

        with ThreadPoolExecutor(JOBS) as pool:
            held = [copies.get() for _ in range(JOBS)]
            for failure in pool.map(sound, held):
                if failure:
                    print(failure)
                    return 1
            for copy in held:
                copies.put(copy)
            verdicts = list(pool.map(one, mutants))
    survivors = [mutant for mutant, verdict in verdicts if verdict != "noticed"]
    print(f"{len(mutants)} mutants, of which {len(survivors)} were not noticed")
    for mutant in survivors:
        print(f"  {title(mutant)}")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
