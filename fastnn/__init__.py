"""fastnn: train and run small neural networks at the speed of the machine, from plain NumPy.

>>> import fastnn
>>> net = fastnn.Sequential(fastnn.Linear(784, 64), fastnn.Sigmoid(), fastnn.Linear(64, 10))
"""

from fastnn.backend import (
    Backend,
    BackendUnavailable,
    available_backends,
    get_backend,
    get_num_threads,
    seed,
    set_backend,
    set_num_threads,
    use_backend,
)

__version__ = "0.1.0"
