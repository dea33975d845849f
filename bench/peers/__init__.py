"""The comparison with other libraries: one file a library, `<library>_peer.py`, and what runs them in turn.

The rules of the room:

* A peer file has ``training(network, variant)``, which returns a call that does one training step on the
  network's batch and returns the loss, and ``inference(network, variant)``, which returns a call that gives
  the outputs for it: as far as the library can do either. Every call starts from the NumPy arrays.
* Nothing else is in it: each library is set up as its documentation says one should for speed, with the same
  initial weights and the constants below. What a library computes differently its file says.
* Before anything is timed, the losses of the first steps (or the outputs) must agree among all peers.
* A peer lives in a process of its own and is stopped by a signal while another is timed: their thread pools
  spin when idle.

This file is imported before a worker knows how many CPUs it may use: it imports nothing.
"""

LR, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 1e-4
