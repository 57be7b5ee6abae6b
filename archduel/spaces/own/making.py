"""Making a space of a person's own class, of a function, or of a table of options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any

from archduel import registry
from archduel.errors import SettingError
from archduel.spaces.own.choices import choose
from archduel.spaces.own.family import family_of_space
from archduel.spaces.own.space import USUAL, OwnSpace, identity_of, marked

__all__ = ["adapted", "space", "space_of"]



def space_of(
    program: Callable[..., Any], *, name: str = "", example: Any = None, check: bool = True, recipe: Mapping[str, Any] | None = None,
    **settings: Any,
) -> OwnSpace:  # fmt: skip
    """Returns the search space of a person's own network: one architecture for each way to answer the choices of its constructor.

    The constructor is run many times, with other answers each time, and every option is built and run once, forward and backward.

    Args:
        program: an ``nn.Module`` class whose ``__init__`` asks :func:`choose`, :func:`repeat`, :func:`switch`, or any function that does.
            ``in_channels``, ``n_classes`` (``num_classes``) and ``image_size`` are filled in from the images.
        name: of the space; None = that of the class.
        example: shape of one input without the batch, such as ``(1, 128)``, where the input is no image; or a batch as a tensor.
        check: whether every option is built and run here; :func:`archduel.search` does it for its images anyway.
        recipe: decisions of the training recipe as :func:`archduel.recipe_space` takes them; ``space_of(Mine) + recipe_space(...)`` says the same.
        **settings: further arguments of the constructor.

    Raises:
        SettingError: for choices that cannot be searched, options that cannot be built or run; the message names them.
    """
    if not callable(program) or (hasattr(program, "state_dict") and not isinstance(program, type)):
        raise SettingError(f"space_of takes the class, which is called again and again, not {program!r}; give {type(program).__name__} itself")
    title = str(getattr(program, "__name__", type(program).__name__))
    mark = f"_{marked(settings)}" if settings else ""
    how = {**({"name": name} if name else {}), **({"example": list(example)} if isinstance(example, (tuple, list)) else {}), **settings}
    how |= {"recipe": dict(recipe)} if recipe else {}
    scale = USUAL
    if isinstance(example, (tuple, list)) and example:
        # of a signal or an image the first number is its channels, the last one its side
        scale = replace(USUAL, in_channels=int(example[0]), image_size=int(example[-1]))
    found = OwnSpace(
        program, name=name or title + mark, settings=settings, example=example, identity=identity_of(program, how), scale=scale, recipe=recipe
    )
    registry.adopt("space", found.identity, found)
    if check and isinstance(program, type):
        from archduel.spaces.own.network import check_options

        check_options(found, found.scale)
    return found


def space(options: Mapping[str, Iterable[Any]], *, name: str = "options") -> OwnSpace:
    """Returns the search space of a table of options, for people who have a function and no network.

    Args:
        options: name -> what there is to choose from; a mapping in place of a list names sub-tables: ``{"model": {"tree":
            {"depth": [3, 5]}, "linear": {}}}`` asks ``model``, and ``model.depth`` where it is a tree.
        name: of the space.

    Raises:
        SettingError: for options that cannot be decided between.

    Example:
        >>> space({"a": [1, 2, 3], "b": ["x", "y"]}).size
        6
    """
    if not isinstance(options, Mapping) or not options:
        raise SettingError(f"space takes {{'name': [options], ...}}, got {options!r}")
    return OwnSpace(_Options(options), name=name)


class _Options:
    """A program that asks a table of options."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = {key: value if isinstance(value, Mapping) else tuple(value) for key, value in options.items()}
        self.__name__ = "options"

    def __call__(self) -> dict[str, Any]:
        """Returns name -> the option taken."""
        return _asked(self.options, "")


def _asked(options: Mapping[str, Any], scope: str) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for key, value in options.items():
        if not isinstance(value, Mapping):
            answers[scope + key] = choose(scope + key, value)
            continue
        answers[scope + key] = taken = choose(scope + key, list(value))
        answers |= _asked(value[taken] or {}, f"{scope}{key}.")
    return answers


def adapted(thing: Any, name: str, settings: dict[str, Any]) -> Any:
    """Returns what stands on the menu of spaces for something from outside: the family of an own network, anything else as it is."""
    if isinstance(thing, OwnSpace):
        thing.identity = name
        return family_of_space(thing)
    module = isinstance(thing, type) and hasattr(thing, "state_dict") and hasattr(thing, "forward")
    if isinstance(thing, FunctionType) or module:
        found = space_of(thing, check=False, **settings)
        found.identity = name
        return family_of_space(found)
    return thing
