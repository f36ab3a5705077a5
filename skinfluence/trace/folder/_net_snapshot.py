"""All that a training in progress is made of but its data: taken off a net, and put back."""

import random
from typing import Any, TypeVar

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from skinfluence.storage._files import Plain

Part = TypeVar("Part")
# What skorch's callbacks carry from one epoch to the next, and set anew when training begins:
# EpochScoring, EarlyStopping, LRScheduler. Those of other callbacks begin anew.
_CARRIED = (
    "best_score_",
    "misses_",
    "dynamic_threshold_",
    "best_epoch_",
    "best_model_weights_",
    "batch_idx_",
)


def snapshot_of(net: NeuralNet, generators: list[torch.Generator]) -> Plain:
    """Take what a training goes on from, in plain containers."""
    modules, optimizers = _parts(net, nn.Module), _parts(net, torch.optim.Optimizer)
    return {
        "modules": {name: module_snapshot(module) for name, module in modules.items()},
        "gradients": _accumulated(net),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "callbacks": {name: _carried(callback) for name, callback in net.callbacks_},
        "random": random_states(),
        "generators": [generator.get_state() for generator in generators],
    }


def put_back(
    net: NeuralNet, snapshot: Plain, generators: list[torch.Generator], begun: Plain
) -> None:
    """Bring a net whose training begins to where another one stood."""
    for name, module in _parts(net, nn.Module).items():
        load_module_snapshot(module, snapshot["modules"][name])
    for name, gradient in snapshot["gradients"].items():
        parameter = net.module_.get_parameter(name)
        parameter.grad = gradient.to(parameter)
    for name, optimizer in _parts(net, torch.optim.Optimizer).items():
        optimizer.load_state_dict(snapshot["optimizers"][name])
    for name, callback in net.callbacks_:
        carried = dict(snapshot["callbacks"].get(name, {}))
        if "scheduler" in carried:
            callback.lr_scheduler_.load_state_dict(carried.pop("scheduler"))
        vars(callback).update(carried)
    if len(generators) != len(snapshot["generators"]):
        raise ValueError(
            f"The training loader has {len(generators)} generators of its own, but the training "
            f"to go on with had {len(snapshot['generators'])}. Use the loader and sampler that it "
            "was begun with."
        )
    for generator, state in zip(generators, snapshot["generators"], strict=True):
        generator.set_state(state)
    # a generator that the other training never drew from stays as it is
    drawn = {n: s for n, s in snapshot["random"].items() if not same_state(s, begun[n])}
    _set_random_states(drawn)


def generators_of(loader: object) -> list[torch.Generator]:
    """Find the generators that a data loader and its samplers hold."""
    batches = getattr(loader, "batch_sampler", None)
    holders = [loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)]
    generators = [getattr(holder, "generator", None) for holder in holders]
    by_place = {id(g): g for g in generators if isinstance(g, torch.Generator)}
    return list(by_place.values())


def random_states() -> Plain:
    """Read the global generators: torch's, CUDA's once it is in use, numpy's, Python's."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": np.random.get_state(),  # noqa: NPY002 - the global generator is what is meant
        "python": _compact(random.getstate()),
    }


def same_state(one: Any, two: Any) -> bool:
    """Tell whether two states of a generator are equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same_state, one, two))
    return bool(one == two)


def _set_random_states(states: Plain) -> None:
    if "torch" in states:
        torch.set_rng_state(states["torch"])
    if states.get("cuda"):
        torch.cuda.set_rng_state_all(states["cuda"])
    if "numpy" in states:
        np.random.set_state(states["numpy"])  # noqa: NPY002
    if "python" in states:
        version, words, gauss = states["python"]
        random.setstate((version, tuple(words.tolist()), gauss))


def _compact(state: Any) -> Any:
    version, words, gauss = state
    return version, np.array(words, np.uint32), gauss  # 625 numbers, written after every epoch


def _parts(net: NeuralNet, kind: type[Part]) -> dict[str, Part]:
    return {name: part for name, part in vars(net).items() if isinstance(part, kind)}


def module_snapshot(module: nn.Module) -> Plain:
    """Take what training may change of a module, in plain containers."""
    whole = module.state_dict()
    hidden = {name: b for name, b in module.named_buffers() if name not in whole}
    trainable = {name: p.requires_grad for name, p in module.named_parameters()}
    return {"state": dict(whole), "hidden_buffers": hidden, "trainable": trainable}


def load_module_snapshot(module: nn.Module, snapshot: Plain) -> None:
    """Bring a module to where another one of its kind was."""
    module.load_state_dict(snapshot["state"])
    buffers = dict(module.named_buffers())
    with torch.no_grad():
        for name, value in snapshot["hidden_buffers"].items():
            buffers[name].copy_(value)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(snapshot["trainable"][name])


def _accumulated(net: NeuralNet) -> dict[str, torch.Tensor]:
    """Give the gradients that a training step of the net's own may go on adding to."""
    if type(net).train_step is NeuralNet.train_step:  # it begins by setting them to zero
        return {}
    named = net.module_.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


def _carried(callback: Any) -> Plain:
    carried = {name: vars(callback)[name] for name in _CARRIED if name in vars(callback)}
    scheduler = vars(callback).get("lr_scheduler_")
    if scheduler is not None:
        carried["scheduler"] = scheduler.state_dict()
    return carried
