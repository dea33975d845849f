"""``python -m bench.gpu``: fastnn on a GPU, beside PyTorch and against what the machine can do.

The rules of the room:

* Inputs lie on the device before anything is timed, for everyone; images are channels-last for everyone, and
  a step is forward, loss, backward and update, in the same precision and from the same weights.
* Before anything is timed, the losses of the first steps must agree among all contenders.
* Times are those between two events on the device, around as many calls as take milliseconds.
* Work is cut into items, ``worker.py`` does them in a process of its own: after an item that fails it starts
  anew, since an error on the device ends all that a process can do there. What was measured is on disk.
"""
