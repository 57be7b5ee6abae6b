"""Networks of a person's own space: built, counted, and every option tried once before a search pays for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from archduel.core import Arch, Counts, Scale, sample
from archduel.errors import SettingError
from archduel.spaces.own.choices import no_choices
from archduel.spaces.own.quiet import weights_not_drawn
from archduel.spaces.own.space import OwnSpace

__all__ = ["build_own", "check_options", "count_own", "example_of", "predicted_costs"]

# -- What a network is run on ---------------------------------------------------------------------------------------------


def example_of(space: OwnSpace, scale: Scale, batch: int = 2) -> Tensor | None:
    """Returns a batch that networks of ``space`` take: as the space says, else images; None where neither is known."""
    if isinstance(space.example, Tensor):
        return space.example[:batch]
    images = "in_channels" in space.arguments and "in_channels" not in space.settings
    if space.example is not None and not (images and len(space.example) == 3):
        return torch.rand(batch, *space.example, generator=torch.Generator().manual_seed(0))
    if not images:
        return None
    return torch.rand(batch, scale.in_channels, scale.image_size, scale.image_size, generator=torch.Generator().manual_seed(0))


def build_own(space: OwnSpace, arch: Arch, scale: Scale, *, auxiliary: bool = False) -> nn.Module:
    """Returns the person's own module with these choices, weights drawn from the global generator.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for an auxiliary head, or a program that makes no module.
    """
    if auxiliary:
        raise SettingError(f"networks of {space.name} have no auxiliary head; use a recipe without auxiliary_weight")
    here = space.at_scale(scale)
    network = here.build(arch)
    if not isinstance(network, nn.Module):
        raise SettingError(f"{space.name} makes {type(network).__name__}, expected an nn.Module; search_space takes anything")
    if _needs_plain_layout(here, scale):
        object.__setattr__(network, "_archduel_contiguous", True)
    return network


def _needs_plain_layout(space: OwnSpace, scale: Scale) -> bool:
    """Whether networks fail where channels come last, as those do that call ``view`` on a map; tried once."""
    if not hasattr(space, "_plain_layout"):
        space._plain_layout = False  # type: ignore[attr-defined]
        x = example_of(space, scale)
        if x is not None and x.ndim == 4:
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    space.build(space.start()).to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
            except RuntimeError:
                space._plain_layout = True  # type: ignore[attr-defined]
    return bool(space._plain_layout)  # type: ignore[attr-defined]


# -- What a network costs -------------------------------------------------------------------------------------------------


def count_own(space: OwnSpace, arch: Arch, scale: Scale) -> Counts:
    """Returns parameters and multiply-adds for one input, of a network that is built and run once; remembered.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: where nothing says what a network's input is.
    """
    here = space.at_scale(scale)
    known: dict[Any, Counts] = here.__dict__.setdefault("_counted", {})
    key = (arch, scale.image_size, scale.in_channels)
    if key not in known:
        known[key] = _counted(here, arch, scale)
    return known[key]


def _counted(space: OwnSpace, arch: Arch, scale: Scale) -> Counts:
    x = example_of(space, scale, 1)
    if x is None:
        raise SettingError(f"{space.name}: what a network's input is stands nowhere; say it: space_of(..., example=(channels, length))")
    with torch.random.fork_rng(devices=[]), weights_not_drawn():
        network = space.build(arch).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(x)
    params = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return Counts(params, counter.get_total_flops() // 2)


COUNTED = 150
"""Architectures from which costs are foretold for rankers, which ask for thousands."""
RIDGE = 1e-3


def predicted_costs(space: OwnSpace, archs: Sequence[Arch], scale: Scale) -> NDArray[np.float64]:
    """Returns (N, 2) parameters and multiply-adds as rankers get them: foretold from 150 counted ones, since counting takes a build each.

    A quadratic function of the features for the logarithms of both; fitted once, on architectures drawn with a fixed seed.
    """
    here = space.at_scale(scale)
    key = f"_costs_{scale.image_size}_{scale.in_channels}"
    if key not in here.__dict__:
        rng = np.random.default_rng(0)
        drawn = list(dict.fromkeys([here.start(), *(sample(here, rng) for _ in range(COUNTED))]))
        counted = np.array([count_own(here, arch, scale) for arch in drawn], np.float64)
        x, y = here.features(drawn).astype(np.float64), np.log(np.maximum(counted, 1.0))
        gram = _kernel(x, x) + RIDGE * np.eye(len(x))
        mean = y.mean(0)
        here.__dict__[key] = x, np.linalg.solve(gram, y - mean), mean
    x, weights, mean = here.__dict__[key]
    rows = here.features(archs).astype(np.float64)
    return np.asarray(np.exp(_kernel(rows, x) @ weights + mean))


def _kernel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (N, M) inner products of all products of two features."""
    return np.asarray((1.0 + first @ second.T) ** 2 / max(1, first.shape[1]))


# -- Every option once ----------------------------------------------------------------------------------------------------


HINT = "; for another input say space_of(..., example=(channels, height, width)), or check=False where archduel.search tries it on its images"
DRAWN = 30
"""Random architectures that are tried: each takes an option of every decision, so that few are needed for all."""


def check_options(space: OwnSpace, scale: Scale) -> int:
    """Builds every option of every decision once and runs it forward and backward; returns how many options there are.

    Raises:
        SettingError: naming the option that cannot be built or run, two draws that share a module, a constructor that builds
            something else each time, or a choice that is asked while the network runs.
    """
    here = space.at_scale(scale)
    wanted = set(here.structure.reached)
    with torch.random.fork_rng(devices=[]):
        _check_alike(here)
        start = here.start()
        if error := _fault(here, start, scale):
            raise SettingError(f"{space.name}: the network of all first options {error[0]}: {_reason(error[1])}{HINT if 'run' in error[0] else ''}") from error[1]
        rng, covered = np.random.default_rng(1), _taken(here, start)
        for _ in range(DRAWN):
            if covered >= wanted:
                break
            arch = sample(here, rng)
            if _taken(here, arch) - covered:
                _try(here, arch, scale)
                covered |= _taken(here, arch)
        for name, text in sorted(wanted - covered):
            answers = {question.name: question.labels[index] for question, index in here.structure.reached[name, text]}
            _try(here, here.read(", ".join(f"{key}={value}" for key, value in answers.items())), scale)
    return len(wanted)


def _taken(space: OwnSpace, arch: Arch) -> set[tuple[str, str]]:
    pairs = zip(space.structure.path(arch.choices), arch.choices)
    return {(question.name, question.labels[index]) for question, index in pairs}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _fault(space: OwnSpace, arch: Arch, scale: Scale) -> tuple[str, Exception] | None:
    """Returns what goes wrong with a network, None if it can be built and run."""
    stage = "cannot be built"
    try:
        network = space.build(arch)
        if not isinstance(network, nn.Module):
            return None
        x = example_of(space, scale)
        stage = "cannot be run" if x is None else f"cannot be run on a batch of shape {tuple(x.shape)}"
        if x is not None:
            with no_choices():
                answer = network.train()(x)
                _check_answer(space, answer, scale)
                loss = sum(part.float().sum() for part in _tensors(answer))
                if isinstance(loss, Tensor) and loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
                with torch.no_grad():
                    network.eval()(x)
    except SettingError:
        raise
    except Exception as error:  # a person's own code raises what it likes
        return stage, error
    return None


def _check_answer(space: OwnSpace, answer: Any, scale: Scale) -> None:
    """Refuses logits of another number of classes, where the constructor was told the number."""
    told = {"n_classes", "num_classes"} & set(space.arguments)
    if told and space.example is None and isinstance(answer, Tensor) and answer.ndim == 2 and answer.shape[1] != scale.n_classes:
        raise SettingError(
            f"{space.name} answers with {answer.shape[1]} numbers an image where {scale.n_classes} classes were asked for; use {min(told)!r} "
            "in the last layer"
        )


def _tensors(answer: Any) -> list[Tensor]:
    if isinstance(answer, Tensor):
        return [answer]
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    return [tensor for part in answer for tensor in _tensors(part)] if isinstance(answer, (list, tuple)) else []


def _try(space: OwnSpace, arch: Arch, scale: Scale) -> None:
    """Raises SettingError that names the option, or the options together, with which a network fails."""
    error = _fault(space, arch, scale)
    if error is None:
        return
    values = {question.name: question.labels[index] for question, index in zip(space.structure.path(arch.choices), arch.choices)}
    for name, text in values.items():
        trace = space.structure.reached.get((name, text))
        if trace is None or trace[0][0].labels is None:
            continue
        alone = space.read(", ".join(f"{question.name}={question.labels[index]}" for question, index in trace))
        fault = _fault(space, alone, scale)
        if fault is not None:
            others = {q.name: q.labels[i] for q, i in trace if i and (q.name, q.labels[i]) != (name, text)}
            beside = f" (with {', '.join(f'{k}={v}' for k, v in others.items())})" if others else ""
            raise SettingError(f"{space.name}: option {name}={text}{beside} {fault[0]}: {_reason(fault[1])}") from fault[1]
    raise SettingError(f"{space.name}: the options {space.write(arch)} together {error[0]}: {_reason(error[1])}") from error[1]


def _check_alike(space: OwnSpace) -> None:
    """Refuses a constructor that builds other layers each time, and draws that share modules."""
    arch = space.start()
    try:
        first, second = space.build(arch), space.build(arch)
    except SettingError:
        raise
    except Exception as error:
        raise SettingError(f"{space.name}: the network of all first options cannot be built: {_reason(error)}") from error
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        return
    modules = {id(module): name for name, module in first.named_modules()}
    shared = next((name for name, module in second.named_modules() if id(module) in modules), None)
    if shared is not None:
        raise SettingError(
            f"{space.name}: two draws share one module, {shared or 'the whole network'!r}; make it in the constructor, or give switch what "
            "makes one (nn.ReLU without parentheses)"
        )
    shapes = [{name: tuple(value.shape) for name, value in network.state_dict().items()} for network in (first, second)]
    if shapes[0] != shapes[1]:
        different = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        raise SettingError(
            f"{space.name}: the constructor builds another network each time with the same answers: {different} has shape "
            f"{shapes[0].get(different)}, then {shapes[1].get(different)}; what is random must be a choice, or not be there"
        )
