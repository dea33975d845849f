"""Published networks, each in one short file that reads as an example: data, model, loss, optimiser,
schedule.

>>> from fastnn import experiments
>>> result = experiments.run("mnist-mlp", out="out/mnist-mlp", epochs=2)

``base`` says what an experiment is; ``running`` trains one and writes its results, ``pictures`` draws them,
``environment`` notes on what. ``reproducing`` trains all that was published, ``results`` compares, and
``report`` writes the comparison into a page. ``search`` tries many settings.
"""

from fastnn.experiments.base import (
    NAMES,
    Experiment,
    LogUniform,
    Published,
    Search,
    Setup,
    Variant,
    get,
)
from fastnn.experiments.pictures import PICTURES
from fastnn.experiments.running import run

__all__ = [
    "NAMES",
    "PICTURES",
    "Experiment",
    "LogUniform",
    "Published",
    "Search",
    "Setup",
    "Variant",
    "get",
    "run",
]
