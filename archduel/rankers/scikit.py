"""Any scikit-learn regressor as a ranker, named by its place in scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any

from archduel.core import Space, State
from archduel.errors import SettingError, StateError, unknown
from archduel.rankers.columns import Costs
from archduel.rankers.regression import Regression, Regressor

__all__ = ["MODULES", "ScikitLearn"]

MODULES = (
    "cross_decomposition", "dummy", "ensemble", "gaussian_process", "isotonic", "kernel_ridge", "linear_model", "neighbors",
    "neural_network", "svm", "tree",
)  # fmt: skip
"""The parts of scikit-learn that regressors are taken from."""


class ScikitLearn(Regression):
    """A regressor such as ``sklearn.svm.SVR`` on standardised graph features.

    A saved state holds architectures, labels, name, settings and seed; loading it fits the regressor again. Nothing else is
    imported by name: only regressors of scikit-learn's own modules (``MODULES``).

    Args:
        space: describes architectures.
        costs: gives closed-form costs; None = not used.
        regressor: dotted name.
        settings: of that class, JSON values.
        target: the ``label``, or its ``rank``; see :class:`~archduel.rankers.regression.Regression`.
        seed: handed over as ``random_state`` where the class has one.

    Raises:
        SettingError: for another name, or settings that the class does not have.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs | None = None,
        *,
        regressor: str = "sklearn.ensemble.RandomForestRegressor",
        settings: Mapping[str, Any] | None = None,
        target: str = "label",
        seed: int = 0,
    ) -> None:
        self.regressor, self.settings = regressor, dict(settings or {})
        self._class = _found(regressor)
        known = signature(self._class).parameters
        for name in self.settings:
            if name not in known:
                raise SettingError(str(unknown(f"setting of {regressor}:", name, known)))
        try:
            json.dumps(self.settings)
        except TypeError as error:
            raise SettingError(f"settings of {regressor} must be JSON values: {error}") from error
        self._given = {"random_state": seed, "n_jobs": 1}
        self._given = {name: value for name, value in self._given.items() if name in known} | self.settings
        super().__init__(space, costs, fresh=self._pipeline, target=target, seed=seed)

    def _pipeline(self) -> Regressor:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), self._class(**self._given))  # type: ignore[no-any-return]

    def state_dict(self) -> State:
        """Returns what was learned, and by which regressor."""
        state = super().state_dict()
        about = {"regressor": self.regressor, "settings": self.settings, "seed": self.seed}
        return {**state, **about} if state else {}

    def load_state_dict(self, state: State) -> None:
        """Learns again what another with the same settings learned.

        Raises:
            StateError: if the state is of another regressor, or of other settings.
            InvalidArchError: if the state is of another space.
        """
        mine = {"regressor": self.regressor, "settings": self.settings, "seed": self.seed}
        other = {name: state[name] for name in mine if name in state}
        if state and other != mine:
            raise StateError(
                f"the saved ranker is {other}, this one is {mine}; make one with the same settings"
            )
        super().load_state_dict(state)


def _found(dotted: str) -> Any:
    """Returns the regressor class of that name."""
    module, _, name = dotted.rpartition(".")
    package, _, part = module.partition(".")
    if package != "sklearn" or part not in MODULES or name.startswith("_"):
        raise SettingError(
            f"regressor is {dotted!r}, expected sklearn.PART.NAME with PART one of {', '.join(MODULES)}, such as sklearn.svm.SVR"
        )
    from sklearn.base import RegressorMixin

    found = getattr(import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, RegressorMixin)):
        raise SettingError(f"{dotted!r} is not a regressor of scikit-learn")
    return found
