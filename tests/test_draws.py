"""Batches drawn with replacement: an epoch has as many as asked for; a stopped run goes on with the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn.losses import SoftmaxCrossEntropy
from fastnn.training import History, Trainer

X = np.eye(30, dtype=np.float32)  # example i is known by its only input that is not 0
Y = np.arange(30) % 3


class Counting(fastnn.Linear):
    """Counts how often each example is trained on."""

    def forward(self, x, training=False):
        if training:
            self.counts = getattr(self, "counts", 0) + np.asarray(x).sum(axis=0)
        return super().forward(x, training)


def fit(epochs: int, seed: int = 0, **options: object) -> tuple[Counting, History]:
    fastnn.seed(1)
    net = Counting(30, 3)
    trainer = Trainer(
        net,
        SoftmaxCrossEntropy(),
        fastnn.optim.SGD(net.parameters(), 0.1),
        progress=False,
        seed=seed,
        checkpoint=options.pop("checkpoint", None),
    )
    return net, trainer.fit(X, Y, epochs, 10, **options)


def test_epoch_has_as_many_batches_as_are_drawn() -> None:
    net, history = fit(2, draws=70)
    assert history.column("steps") == [70, 140]
    assert len(history.step_loss) == 140
    assert net.counts.sum() == 1400
    assert 0 < history.epochs[-1]["accuracy"] <= 1


def test_batches_are_drawn_with_replacement() -> None:
    counts = fit(1, draws=3)[0].counts  # as many as there are examples: a pass would take each once
    assert counts.max() > 1
    assert (counts == 0).any()
    assert (fit(1)[0].counts == 1).all()


def test_seed_decides_what_is_drawn() -> None:
    losses = [fit(1, seed, draws=20)[1].step_loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_stopped_run_goes_on_with_the_same_draws(tmp_path: Path) -> None:
    whole, history = fit(4, draws=5)
    fit(2, draws=5, checkpoint=tmp_path / "c.npz")
    resumed, rest = fit(4, draws=5, checkpoint=tmp_path / "c.npz", resume=True)
    np.testing.assert_array_equal(resumed.weight.data, whole.weight.data)
    assert rest.step_loss == history.step_loss
    with pytest.raises(ValueError, match="belongs to a run with draws 5, not 6"):
        fit(4, draws=6, checkpoint=tmp_path / "c.npz", resume=True)


@pytest.mark.parametrize("options", [{"draws": 0}, {"draws": 2, "shuffle": False}])
def test_no_draws_and_draws_in_order_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="draws must be >= 1 and go with shuffle=True"):
        fit(1, **options)
