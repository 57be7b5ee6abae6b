"""Training through ``torch.compile``: the same weights and checkpoints, one compilation, and without it where it fails.

The backends are torch's ``eager``, which only traces, and ones made here: torch's own compiler takes minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Small, stripes
from torch import fx, nn

from archduel.training.images import Pixels
from archduel.training.loop import Trained, train
from archduel.training.recipe import Recipe
from archduel.training.runtime import Backend, seeded_build


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(task: Any, recipe: Recipe, compiled: bool | Backend, **more: Any) -> tuple[nn.Module, Trained, list[str]]:
    said: list[str] = []
    model = seeded_build(lambda: Small(auxiliary=recipe.auxiliary_weight > 0), 5)
    result = train(model, task, recipe, seed=1, compiled=compiled, on_note=said.append, **more)
    assert result.reason == ""
    return model, result, said


def same(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    assert list(one) == list(two)
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("changes", [{}, {"auxiliary_weight": 0.4, "ema": 0.9}], ids=["plain", "auxiliary head and average"])
def test_tracing_changes_nothing(changes: dict[str, float], task, held_out, recipe) -> None:
    recipe = recipe.with_(epochs=2, **changes)
    plain, alone, silence = trained(task, recipe, False, validation=held_out)
    model, result, said = trained(task, recipe, "eager", validation=held_out)
    assert same(plain, model)
    assert alone.history == result.history
    assert (alone.compile_seconds, alone.compile_note, silence) == (0.0, "", [])
    assert 0 < result.compile_seconds < result.seconds
    assert said == [result.compile_note]
    assert said[0].startswith("compiled in ")


def test_steps_of_two_sizes_and_evaluation_are_one_compilation(held_out, recipe) -> None:
    graphs: list[fx.GraphModule] = []

    def counting(graph: fx.GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    images = Pixels(*stripes(2 * 16 + 1), (0.4,) * 3, (0.25,) * 3)
    trained(images, recipe.with_(epochs=2, batch_size=17), counting, validation=held_out)
    assert len(graphs) == 1


def test_a_training_continues_with_or_without(task, recipe, tmp_path: Path) -> None:
    recipe = recipe.with_(epochs=3)
    plain, _, _ = trained(task, recipe, False)
    kept: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint.safetensors", "checkpoint_seconds": 0}

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    for compiled in ("eager", False):
        with pytest.raises(KeyboardInterrupt):
            trained(task, recipe, compiled, on_epoch=killed, **kept)
    model, result, _ = trained(task, recipe, "eager", **kept)
    assert same(plain, model)
    assert len(result.history) == 3
    assert result.compile_seconds > float(result.compile_note.split()[2])  # that of the first attempt too
    again, ready, said = trained(task, recipe, "eager", **kept)
    assert same(plain, again)
    assert (ready.compile_seconds, said) == (result.compile_seconds, [])  # nothing left to compile for


def failing(graph: fx.GraphModule, _: object) -> Callable[..., Any]:
    raise RuntimeError("no C compiler was found")


def failing_later(graph: fx.GraphModule, _: object) -> Callable[..., Any]:
    def run(*_: object) -> object:
        raise RuntimeError("the code does not run here")

    return run


BROKEN = {
    "there is no such backend": ("nonsense", "nonsense"),
    "the compiler fails": (failing, "no C compiler"),
    "what it makes fails": (failing_later, "does not run here"),
}


@pytest.mark.parametrize(("backend", "reason"), BROKEN.values(), ids=BROKEN)
def test_where_compiling_fails_the_training_goes_on(backend: Backend, reason: str, task, recipe) -> None:
    recipe = recipe.with_(epochs=2)
    plain, _, _ = trained(task, recipe, False)
    model, result, said = trained(task, recipe, backend)
    assert same(plain, model)
    assert said == [result.compile_note]
    assert said[0].startswith("torch.compile failed after ")
    assert "the training goes on without it" in said[0]
    assert reason in said[0]
