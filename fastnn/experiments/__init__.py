"""Published networks, each in one short file that reads as an example: data, model, loss, optimiser,
schedule.

>>> from fastnn import experiments
>>> result = experiments.run("mnist-mlp", out="out/mnist-mlp", epochs=2)

``base`` says what an experiment is, ``running`` trains one and writes its results, ``environment`` notes on
what.
"""

from fastnn.experiments.base import NAMES, Experiment, Published, Setup, Variant, get
from fastnn.experiments.running import PICTURES, run

__all__ = ["NAMES", "PICTURES", "Experiment", "Published", "Setup", "Variant", "get", "run"]
