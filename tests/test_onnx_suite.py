"""fastnn.onnx_backend under the ONNX project's own tests of backends."""

from __future__ import annotations

import pytest

from fastnn.onnx_backend import UnsupportedModel, prepare
from fastnn.onnx_backend.node import OPERATORS
from tests import onnx_suite
from tests.backends import on_backend  # noqa: F401
from tests.onnx_suite import DIFFERENT, REFUSED, Watched

CASES = onnx_suite.cases()
RUN = onnx_suite.run_cases()
OURS = [name for name, case in CASES.items() if case.operators <= set(OPERATORS)]


@pytest.mark.parametrize("name", RUN)
def test_suite_gets_what_it_expects(name: str, backend: str) -> None:
    before = Watched.runs
    CASES[name].run()
    assert Watched.runs > before


@pytest.mark.parametrize("name", [name for name in OURS if CASES[name].matches(REFUSED)])
def test_model_that_is_listed_as_refused_is_refused_for_that_reason(name: str) -> None:
    (pattern,) = CASES[name].matches(REFUSED)
    with pytest.raises(UnsupportedModel) as caught:
        CASES[name].run()
    about, _ = REFUSED[pattern]
    assert caught.value.attribute.startswith(tuple(about.split("|")))
    assert caught.value.value is not None
    assert caught.value.node
    assert caught.value.node in str(caught.value)


@pytest.mark.parametrize("name", [name for name in OURS if CASES[name].matches(DIFFERENT)])
def test_model_that_is_listed_as_different_runs_to_something_else(name: str) -> None:
    before = Watched.runs
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        CASES[name].run()
    assert Watched.runs > before


def test_model_with_an_operator_that_fastnn_has_not_is_refused_by_its_name() -> None:
    others, named = [case for name, case in CASES.items() if name not in OURS], 0
    for case in others:
        with pytest.raises(UnsupportedModel) as caught:
            prepare(case.model)
        error = caught.value
        if error.attribute:  # of a node before it, or the type of an input
            continue
        named += 1
        domain, _, name = error.operator.rpartition(".")
        assert (domain, name) in case.operators - set(OPERATORS), case.name
        assert error.operator in str(error)
    assert named > 0.8 * len(others) > 80


def test_each_model_of_fastnns_operators_is_run_or_listed_once_and_each_entry_is_of_use() -> None:
    for name in OURS:
        listed = CASES[name].matches(REFUSED | DIFFERENT)
        assert len(listed) == (name not in RUN), name
    for pattern in REFUSED | DIFFERENT:
        assert any(pattern in CASES[name].matches(REFUSED | DIFFERENT) for name in OURS), pattern


def test_most_of_the_suite_is_run_and_something_of_every_operator() -> None:
    assert len(RUN) >= 310
    assert len(RUN) > 0.8 * len(OURS)
    untested = set(OPERATORS) - set().union(*(CASES[name].operators for name in RUN))
    assert untested == set()
