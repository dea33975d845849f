"""Optimisers, by the arithmetic of torch.optim: each ``step()`` is one kernel call a group, whatever the
number of parameters.

The kernels work on a table of the arrays of all parameters, bound once. It is bound anew when the backend
changes or a parameter has got new arrays, which a step finds out by comparing identities: the only work it
does besides the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastnn import backend as _backend
from fastnn._memory import zeros_beside

_FIRST_STATE = 2  # beside a parameter, behind its gradient

Params = Iterable[Any]  # of Parameter, or of dicts {"params": [...], and settings for these alone}


class Group:
    """Parameters that are updated with the same settings, which are attributes: ``group.weight_decay``, ...

    Attributes
    ----------
    params : list of Parameter
    lr_scale : float
        The group's learning rate is so many times the optimiser's.
    state : dict
        By name, a list of arrays parallel to `params`: velocities, running means, ...
    """

    def __init__(self, params: list[Any], lr_scale: float, settings: dict[str, Any]) -> None:
        self.params = params
        self.lr_scale = lr_scale
        self.state: dict[str, list[Any]] = {}
        self._settings = tuple(settings)
        vars(self).update(settings)
        self._unbind()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def _unbind(self) -> None:
        self._table: Any = None
        self._names: tuple[str, ...] = ()
        self._backend: Any = None
        self._bound: list[tuple[Any, Any, Any]] = []

    def bind(self, names: tuple[str, ...]) -> tuple[Any, Any]:
        """The update kernels and the table of rows (param, grad, state called `names` ...); missing state
        starts as zeros.
        """
        backend = _backend.backend_of(self.params[0].data)
        if backend is self._backend and names == self._names:
            for parameter, data, grad in self._bound:
                if parameter.data is not data or parameter.grad is not grad:
                    break
            else:
                return backend.update, self._table
        return backend.update, self._bind(backend, names)

    def _bind(self, backend: Any, names: tuple[str, ...]) -> Any:
        on_gpu = backend.room == "cuda"
        if any(_backend.is_device_array(p.data) != on_gpu for p in self.params):
            raise RuntimeError(
                f"the backend in force is {backend.name!r}, but there are parameters on "
                f"{'the host' if on_gpu else 'a GPU'}: an optimiser works on one device"
            )
        for place, name in enumerate(names, _FIRST_STATE):
            arrays = self.state.get(name, [None] * len(self.params))
            self.state[name] = [
                a if _fits(a, p.data) else _beside(p.data, place, a)
                for a, p in zip(arrays, self.params, strict=True)
            ]
        self._bound = [(p, p.data, p.grad) for p in self.params]
        data, grads = [d for _, d, _ in self._bound], [g for _, _, g in self._bound]
        self._table = backend.update.bind(data, grads, *(self.state[name] for name in names))
        self._names, self._backend = names, backend
        return self._table

    def settings(self) -> dict[str, Any]:
        """The settings by name, `lr_scale` included."""
        return {name: getattr(self, name) for name in ("lr_scale", *self._settings)}

    def load(self, settings: dict[str, Any], state: dict[str, list[Any]]) -> None:
        """Take over settings, and copies of the state: its names and shapes have been checked."""
        vars(self).update(settings)
        self.state = {
            name: [_beside(p.data, place, a) for a, p in zip(arrays, self.params, strict=True)]
            for place, (name, arrays) in enumerate(state.items(), _FIRST_STATE)
        }
        self._unbind()

    def __getstate__(self) -> dict[str, Any]:
        """Without the table: it may hold addresses, which mean other arrays in a copy."""
        return {k: v for k, v in vars(self).items() if k not in ("_table", "_names", "_backend", "_bound")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._unbind()


def _fits(values: Any, data: Any) -> bool:
    """Whether `values` have the dtype, memory order and device of `data`."""
    return type(values) is type(data) and (values.dtype, values.strides) == (data.dtype, data.strides)


def _beside(data: Any, place: int, values: Any) -> Any:
    """`values` (None: zeros) copied to what is walked beside `data` as number `place`."""
    array = zeros_beside(data, place)
    if values is not None:
        array[...] = _backend.backend_of(data).xp.asarray(values)
    return array


class Optimizer:
    """What the optimisers share: groups of parameters, a learning rate, and a state that can be saved.

    Attributes
    ----------
    lr : float
        The learning rate; may be set at any time. A group given an ``"lr"`` of its own keeps its proportion
        to it.
    groups : list of Group
    steps : int
        How many steps have been taken.
    """

    def __init__(self, params: Params, lr: float, **settings: Any) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must not be negative, got {lr}")
        for name, value in settings.items():
            if isinstance(value, (int, float)) and not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        self.lr = lr
        self.steps = 0
        self.groups: list[Group] = []
        members = list(params)
        if members and not all(isinstance(m, dict) for m in members):
            members = [{"params": members}]
        for member in members:
            self._add(dict(member), settings)
        everything = [id(p) for group in self.groups for p in group.params]
        if not everything:
            raise ValueError("there are no parameters to update")
        if len(set(everything)) < len(everything):
            raise ValueError("a parameter is given more than once")

    def _add(self, member: dict[str, Any], defaults: dict[str, Any]) -> None:
        params = list(member.pop("params"))
        lr = member.pop("lr", None)
        if lr is not None and self.lr == 0:
            raise ValueError(
                "a group's own lr keeps its proportion to the optimiser's, which therefore must not be 0"
            )
        unknown = sorted(member.keys() - defaults.keys())
        if unknown:
            known = ", ".join(["lr", *defaults])
            raise ValueError(f"{type(self).__name__} has no setting {', '.join(unknown)}: there are {known}")
        if params:
            self.groups.append(Group(params, 1.0 if lr is None else lr / self.lr, defaults | member))

    #: Which kernel of ``fastnn.kernels.*.update`` makes a step.
    _kernel = ""

    def step(self) -> None:
        """Update every parameter from its gradient."""
        self.steps += 1
        for group in self.groups:
            names, arguments = self._for_kernel(group)  # before bind, which makes the missing state
            update, table = group.bind(names)
            getattr(update, self._kernel)(table, *arguments)

    def _for_kernel(self, group: Group) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """What step number :attr:`steps` of the group needs: the names of its state, and what the kernel
        takes besides the table."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on besides parameters and gradients, as a tree of dicts, lists,
        arrays and numbers.
        """
        return {
            "optimizer": type(self).__name__,
            "lr": self.lr,
            "steps": self.steps,
            "groups": [
                {
                    "settings": g.settings(),
                    "state": {name: [a.copy() for a in arrays] for name, arrays in g.state.items()},
                }
                for g in self.groups
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises
        ------
        ValueError
            It is the state of another kind of optimiser, or of one over other parameters. Nothing has been
            changed.
        """
        if state.get("optimizer") != type(self).__name__:
            raise ValueError(f"the state is of {state.get('optimizer')}, not of {type(self).__name__}")
        groups = state["groups"]
        if len(groups) != len(self.groups):
            raise ValueError(
                f"the state has {len(groups)} groups of parameters, this optimiser {len(self.groups)}"
            )
        for own, theirs in zip(self.groups, groups, strict=True):
            shapes = [p.data.shape for p in own.params]
            for name, arrays in theirs["state"].items():
                found = [a.shape for a in arrays]
                if found != shapes:
                    raise ValueError(f"{name} in the state has shapes {found}, the parameters have {shapes}")
            if theirs["settings"].keys() != own.settings().keys():
                raise ValueError(
                    f"the state has settings {sorted(theirs['settings'])}, not {sorted(own.settings())}"
                )
        self.lr, self.steps = state["lr"], state["steps"]
        for own, theirs in zip(self.groups, groups, strict=True):
            own.load(theirs["settings"], theirs["state"])

    def __repr__(self) -> str:
        count = sum(len(group.params) for group in self.groups)
        settings = "".join(
            f", {name}={value!r}" for name, value in self.groups[0].settings().items() if name != "lr_scale"
        )
        return f"{type(self).__name__}({count} parameters, lr={self.lr!r}{settings})"


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: see :func:`fastnn.kernels.reference.update.sgd` for the
    formula.

    Parameters
    ----------
    params : list of Parameter, or of dicts
        A dict ``{"params": [...]}`` is a group; what else it holds overrides the settings below for these
        parameters.
    lr, momentum, weight_decay, dampening : float
    nesterov : bool
        Needs momentum and no dampening.

    Raises
    ------
    ValueError
        A setting is out of range or unknown; there are no parameters, or one is there twice.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, dampening=dampening
        )
        for group in self.groups:
            if group.nesterov and (group.momentum == 0 or group.dampening != 0):
                raise ValueError("nesterov needs a momentum above 0 and no dampening")

    _kernel = "sgd"

    def _for_kernel(self, group: Group) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        rate, momentum, first = self.lr * group.lr_scale, group.momentum, "momentum" not in group.state
        arguments = rate, momentum, group.dampening, group.weight_decay, group.nesterov, first
        return ("momentum",) if momentum else (), arguments


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015): see :func:`fastnn.kernels.reference.update.adam` for the formula.

    Parameters
    ----------
    params : as :class:`SGD` takes them
    lr : float
    betas : (float, float)
        Decay of the running means of the gradient and of its square.
    eps, weight_decay : float
        The weight decay is added to the gradient; :class:`AdamW` decouples it.
    """

    _decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)
        for group in self.groups:
            if not all(0 <= beta < 1 for beta in group.betas):
                raise ValueError(f"betas must be in 0 ... 1, 1 excluded, got {group.betas}")

    _kernel = "adam"

    def _for_kernel(self, group: Group) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        rate, decay = self.lr * group.lr_scale, group.weight_decay
        arguments = rate, *group.betas, group.eps, decay, self._decoupled, self.steps
        return ("mean", "square"), arguments


class AdamW(Adam):
    """Adam with weight decay that acts on the parameter, not through the gradient (Loshchilov & Hutter
    2019).
    """

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012): see :func:`fastnn.kernels.reference.update.rmsprop` for the formula.

    Parameters
    ----------
    params : as :class:`SGD` takes them
    lr, alpha, eps, weight_decay, momentum : float
        `alpha` is the decay of the running mean of the squared gradient.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        super().__init__(params, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)

    _kernel = "rmsprop"

    def _for_kernel(self, group: Group) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        rate, momentum = self.lr * group.lr_scale, group.momentum
        arguments = rate, group.alpha, group.eps, group.weight_decay, momentum
        return ("square", "momentum") if momentum else ("square",), arguments
