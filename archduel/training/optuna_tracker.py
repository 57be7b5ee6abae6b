"""Jobs as studies of Optuna, for `optuna-dashboard` and whoever reads studies: a trial a network, rungs and epochs as intermediate values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from archduel.training.tracking import Candidate, Service, flat

__all__ = ["Optuna"]

SETTINGS = 100
"""Settings that are written as attributes of a study, at most."""
SCORES = ("val_accuracy", "validation accuracy", "score", "train_accuracy")
"""Numbers of a training of which the first that there is becomes the intermediate value."""
ALONE = -1
"""Number of the one trial of a job that has no candidates."""


class Optuna(Service):
    """Writes a study for Optuna: into the storage of ``OPTUNA_STORAGE`` (a database's address), else into a journal file in the folder.

    `optuna-dashboard FOLDER/optuna.log` shows it. A comparison is a study a contestant; a training is a study of one trial.

    Args:
        folder: of the journal file.
        client: a storage of Optuna; None = one is opened.

    Raises:
        SettingError: if Optuna is not installed.
    """

    PACKAGE, CALLED = "optuna", "Optuna"

    def __init__(self, folder: str | Path, client: Any = None) -> None:
        super().__init__(folder, client)
        self._studies: dict[str, Any] = {}
        self._trials: dict[tuple[str, int], Any] = {}  # group and number -> the trial's number in the storage, and its last step; None = finished
        self._alone: Candidate | None = None

    def _imported(self) -> Any:
        from optuna.storages import JournalStorage, get_storage
        from optuna.storages.journal import JournalFileBackend

        address = os.environ.get("OPTUNA_STORAGE")
        return get_storage(address) if address else JournalStorage(JournalFileBackend(str(self.folder / "optuna.log")))

    def _opened(self, name: str, settings: Mapping[str, Any]) -> str:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line of log a study says nothing new
        self._began = datetime.now()
        known = {study.study_name for study in self._client.get_all_studies()}
        new = not self._told.run
        run = str(self._told.run) or (name if name not in known else f"{name} {self._told.key.rpartition(' ')[2]}")
        self._told.run = run
        if new and "" not in self._studies:
            for key, value in flat(settings)[:SETTINGS]:
                self._study("").set_user_attr(key, str(value))
        return run

    def _study(self, group: str) -> Any:
        if group not in self._studies:
            import optuna

            name = f"{self._told.run} / {group}" if group else self._told.run
            study = optuna.create_study(study_name=name, storage=self._client, direction="maximize", load_if_exists=True)
            for trial in study.get_trials(deepcopy=False):
                number = trial.user_attrs.get("number")
                if number is not None:
                    last = max(trial.intermediate_values, default=-1)
                    self._trials[group, number] = None if trial.state.is_finished() else (trial._trial_id, last)
            self._studies[group] = study
        return self._studies[group]

    def candidate(self, candidate: Candidate) -> None:
        """Makes the network's trial, or takes it further; a finished trial stays as it is."""
        study, key = self._study(candidate.group), (candidate.group, candidate.number)
        if key not in self._trials:
            self._make(study, candidate)
        elif self._trials[key] is not None:
            self._advance(candidate, *self._trials[key])

    def _make(self, study: Any, candidate: Candidate) -> None:
        from optuna.trial import create_trial

        values = {name: answer for name, (answer, _) in candidate.answers.items()}
        state, score = _state(candidate)
        trial = create_trial(
            state=state, value=score, params=values, distributions={name: _distribution(*told) for name, told in candidate.answers.items()},
            user_attrs={"number": candidate.number, "name": candidate.name, **candidate.measures}, intermediate_values=dict(candidate.curve),
        )  # fmt: skip
        ended = self._began + timedelta(seconds=candidate.clock)
        trial.datetime_start = ended - timedelta(seconds=candidate.seconds)
        trial.datetime_complete = ended if state.is_finished() else None
        number = self._client.create_new_trial(self._client.get_study_id_from_name(study.study_name), template_trial=trial)
        self._trials[candidate.group, candidate.number] = None if state.is_finished() else (number, max(candidate.curve, default=-1))

    def _advance(self, candidate: Candidate, number: int, last: int) -> None:
        for step, reached in candidate.curve.items():
            if step > last:
                self._client.set_trial_intermediate_value(number, step, reached)
        state, score = _state(candidate)
        if state.is_finished():
            self._client.set_trial_state_values(number, state, None if score is None else [score])
        self._trials[candidate.group, candidate.number] = None if state.is_finished() else (number, max(candidate.curve, default=-1))

    def note(self, numbers: Mapping[str, float], epoch: float) -> None:
        """Takes the numbers of a job without candidates, whose one trial they are; those of others are the candidates'."""
        score: float | None = next((float(numbers[name]) for name in SCORES if name in numbers), None)
        told = set(self._trials) - {("", ALONE)}
        if score is None or told or epoch != int(epoch):
            return
        before = self._alone or Candidate(ALONE, self._told.run)
        self._alone = Candidate(ALONE, before.name, curve={**before.curve, int(epoch): score}, score=score)
        self.candidate(self._alone)

    def keep(self, path: Path) -> None:
        """Writes where the file is."""
        self._study("").set_user_attr(f"file {path.name}", str(path))

    def end(self, result: Mapping[str, Any]) -> None:
        """Writes the result to the study, and ends the trial of a finished job without candidates."""
        for name, value in flat(result)[:SETTINGS]:
            self._study("").set_user_attr(f"result/{name}", value if isinstance(value, (int, float)) else str(value))
        if self._alone is not None and result:
            self.candidate(Candidate(ALONE, self._alone.name, curve=self._alone.curve, score=self._alone.score, state="finished"))
        self._told.write()


def _state(candidate: Candidate) -> tuple[Any, float | None]:
    """Returns Optuna's word for how far a candidate is, and its value where such a trial has one."""
    from optuna.trial import TrialState

    if candidate.state == "finished" and candidate.score is not None:
        return TrialState.COMPLETE, candidate.score
    return {"running": TrialState.RUNNING, "dropped": TrialState.PRUNED}.get(candidate.state, TrialState.FAIL), None


def _distribution(answer: Any, options: tuple[Any, ...]) -> Any:
    """Returns what an answer is one of: the options, or numbers around it, since Optuna lets their range grow."""
    from optuna import distributions

    if options:
        return distributions.CategoricalDistribution(options)
    make = distributions.IntDistribution if isinstance(answer, int) else distributions.FloatDistribution
    return make(answer, answer)
