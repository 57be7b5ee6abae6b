"""Judging queries by the tasks of a Ray cluster (``pip install 'archduel[ray]'``), which need nothing of the driver but the run's folder.

Ray carries jobs to nodes and answers back, and decides nothing. Its own ways that would break what a search promises are off or replaced:

- a task whose process was killed is run again, silently, up to three times: here never (``max_retries=0``); what is tried again is decided
  where that is decided for every executor (:mod:`archduel.execution.tries`);
- processes of workers are reused, with all that is left in them: here the judging is done in a process of its own
  (:class:`~archduel.execution.workers.Worker`), a new one after every trouble; so it is also known whether a network crashed it or somebody killed it;
- a request that no node can fulfil waits for ever in silence: here it is named after half a minute;
- an address where nothing answers ends the program after minutes: here it is asked first;
- ``OMP_NUM_THREADS`` is 1 for a task without a say: here it is what the run computes with.

Images are not sent: each node reads them where the run says, decodes them once into its own cache, and maps that file into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from archduel.core import Estimate, Query
from archduel.errors import ArchduelError, MachineError, RunError, SettingError, in_one_line
from archduel.execution.judging import AtOnce, Judge, one_by_one
from archduel.execution.letters import job_records, outcome_records, read_job, read_outcome
from archduel.execution.processes import THREADS
from archduel.execution.tries import Job, Rounds, Trouble
from archduel.execution.workers import LOOK_EVERY, Worker, over

__all__ = ["PATIENCE", "RayTasks", "Setup", "cluster_address", "judge_here"]

PATIENCE = 30.0
"""Seconds for which no node may have what a task needs: one that is just starting has it by then."""
ANSWERS_IN = 10.0  # seconds in which something has to answer at an address
RAISED = re.compile(r"[\w.]*Error: ")  # how the line of a traceback begins that says what was raised
LOOK_AT_NODES = 5.0  # seconds between two looks at what the nodes have


# -- What runs on a node ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """What a task computes with; tasks with equal ones share a process, and what it has loaded.

    Attributes:
        factory: pickled; makes the judge. It is opened in the process that judges, so that Ray's own stays small.
        threads: for torch and BLAS.
        idle: seconds after which a training that computes nothing is ended.
        limit: seconds that a job may take.
    """

    factory: bytes
    threads: int
    idle: float | None
    limit: float | None

    def __call__(self) -> Judge:
        """Returns the judge."""
        return pickle.loads(self.factory)()

    @property
    def digest(self) -> str:
        """Equal for equal ones."""
        return hashlib.sha256(repr((self.factory, self.threads, self.idle, self.limit)).encode()).hexdigest()


_workers: dict[tuple[str, str | None], Worker] = {}  # in a process of Ray: what it computes with, and on which GPU -> the process that judges


def judge_here(setup: Setup, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the records of what a job came to on this machine; without any job, whether one could be done here.

    Args:
        setup: what to compute with.
        records: of the job (:func:`archduel.execution.letters.job_records`), or none.
    """
    read = read_job(records)
    job = Job(0, 0, [], []) if read is None else read[0]
    worker = _worker_for(setup)
    try:
        worker.begin(job)
        while True:
            for _, outcome in over([worker], LOOK_EVERY):
                return outcome_records(job, outcome)
    except MachineError as error:
        return outcome_records(job, Trouble(str(error), True))
    except ArchduelError as error:
        return [{"event": "broken", "reason": str(error), "host": socket.gethostname()}]
    except BaseException:  # Ray interrupts a task that nobody waits for any more
        worker.end(at_once=True)
        raise


def _worker_for(setup: Setup) -> Worker:
    """Returns the process for such tasks; one that was made for others, or on another GPU, is ended."""
    key = setup.digest, os.environ.get("CUDA_VISIBLE_DEVICES")
    if key not in _workers:
        for worker in _workers.values():
            worker.end(at_once=True)
        _workers.clear()
        os.environ.update(dict.fromkeys(THREADS, str(setup.threads)))  # what a new process finds when it loads its libraries
        _workers[key] = Worker(setup, setup.threads, setup.idle, setup.limit)
    return _workers[key]


# -- Reaching a cluster ---------------------------------------------------------------------------------------------------


def cluster_address(executor: str) -> str:
    """Returns where the Ray is that ``ray`` or ``ray://HOST:PORT`` means: there, that of RAY_ADDRESS, or ``local``, one of this machine.

    Raises:
        SettingError: for an address without host or port.
    """
    address = executor if executor != "ray" else os.environ.get("RAY_ADDRESS", "").strip() or "local"
    if address not in ("local", "auto"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise SettingError(f"the address of a Ray cluster is ray://HOST:10001 (or HOST:6379 in RAY_ADDRESS), got {address!r}")
    return address


def _imported() -> Any:
    """Returns Ray.

    Raises:
        SettingError: where it is not installed.
    """
    # where nobody has decided it: a search tells nobody that it runs, and what a task without a GPU sees is left alone
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise SettingError("executor ray needs Ray, which is not installed: pip install 'archduel[ray]', or choose another executor") from error
    return ray


def _check_reachable(address: str) -> None:
    """Raises RunError where no Ray answers: Ray itself waits for minutes, and then ends the program."""
    hint = "start one there (`ray start --head`), or name another address"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_IN).close()
    except OSError as error:
        raise RunError(f"nothing answers at {address} ({error.strerror or error}); {hint}") from error
    if address.startswith("ray://"):
        return
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", address]
    try:
        healthy = subprocess.run(words, capture_output=True, timeout=3 * ANSWERS_IN).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise RunError(f"what answers at {address} is no Ray that works; {hint}")


# -- The executor ---------------------------------------------------------------------------------------------------------


class RayTasks:
    """An executor whose queries are tasks of a Ray cluster.

    A Ray that this process already uses is used; one that was connected to or started here is let go at the end.

    Args:
        factory: called in processes of the nodes, returns ``judge(query, seed)``; must be picklable, and refuse what does not agree there.
        run_seed: seed of the run; with the ordinal it gives the seed of an evaluation.
        address: :func:`cluster_address`.
        cpus: of one task, as Ray counts them.
        gpus: of one task; shares are allowed.
        threads: of each training.
        at_once: how many waiting queries are one task.
        idle: seconds after which a training that computes nothing is ended, None for judges that wait for something else.
        limit: seconds that a task may take once it is begun, None for any time.
        patience: seconds for which no node may have what a task needs.
        say: is told which cluster it is.

    Raises:
        SettingError: for resources that are no amounts.
    """

    def __init__(
        self, factory: Callable[[], Judge], *, run_seed: int, address: str = "local", cpus: float = 1, gpus: float = 0, threads: int = 1,
        at_once: AtOnce = one_by_one, idle: float | None = None, limit: float | None = None, patience: float = PATIENCE,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        if not (cpus >= 0 and gpus >= 0 and cpus + gpus > 0) or (gpus > 1 and gpus != int(gpus)):
            raise SettingError(f"a task needs CPUs or GPUs, more than one GPU only in whole ones; got {cpus:g} CPUs and {gpus:g} GPUs")
        self.factory, self.address, self.cpus, self.gpus, self.patience, self.say = factory, address, cpus, gpus, patience, say
        self._given = (threads, idle, limit)
        self._rounds = Rounds(self, run_seed, at_once)
        self._ray: Any = None
        self._ours = False
        self._task: Any = None
        self._setup: Any = None
        self._jobs: dict[Any, tuple[Job, float]] = {}  # what Ray will answer -> the job, when it was given away
        self._looked = self._unfit = 0.0

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query in the order given, each as soon as it and all before it are there.

        Raises:
            SettingError: where Ray is not installed.
            MachineError: where nodes fail again and again.
            RunError: where no cluster is reached, none of its nodes has what a task needs, or one of them cannot do it.
        """
        if self._task is None:
            self._connect()
            self._check_nodes()
        return self._rounds.run(queries, ordinals)

    def close(self) -> None:
        """Ends what nobody waits for any more, and leaves the cluster."""
        if self._ray is None:
            return
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing to end
            self.abandon()
        if self._ours:
            with contextlib.suppress(Exception):
                self._ray.shutdown()
        self._jobs.clear()
        self._ray = self._task = self._setup = None

    def __enter__(self) -> RayTasks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> None:
        """Connects to the cluster, or starts one of this machine.

        Raises:
            RunError: where that cannot be.
        """
        ray = _imported()
        self._ours = not ray.is_initialized()
        if self._ours:
            if self.address not in ("local", "auto"):
                _check_reachable(self.address)
            quiet = {} if self.address.startswith("ray://") else {"log_to_driver": False, "logging_level": logging.ERROR}
            alone = {"include_dashboard": False} if self.address == "local" else {}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ray.init(self.address, **quiet, **alone)
            except (OSError, RuntimeError, ValueError) as error:
                raise RunError(f"the Ray cluster at {self.address} cannot be used: {in_one_line(error)}") from error
        self._ray = ray
        self._task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, retry_exceptions=False)(judge_here)
        self._setup = ray.put(Setup(bytes(ForkingPickler.dumps(self.factory)), *self._given))

    # -- nodes ------------------------------------------------------------------------------------------------------------

    def _nodes(self) -> list[dict[str, Any]]:
        """Returns the living nodes that have what a task needs."""
        return [
            node for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= self.cpus and node["Resources"].get("GPU", 0) >= self.gpus
        ]  # fmt: skip

    def _check_nodes(self) -> None:
        """Lets every node get ready, before anything is computed.

        Raises:
            RunError: where no node has what a task needs, or some cannot do one, naming all of them and why.
        """
        while not (nodes := self._nodes()):
            self._look_for_resources()
            time.sleep(0.2)
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {}
        for node in nodes:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            # costs nothing: it may not have to wait until whoever else uses the cluster is done
            task = self._task.options(num_cpus=0, num_gpus=0, scheduling_strategy=strategy)
            asked[task.remote(self._setup, [])] = node["NodeManagerHostname"]
        broken = []
        for waited, name in asked.items():
            answer = self._answer(Job(0, 0, [], []), waited, 0.0)
            # what the machine failed in says nothing yet: whoever gets a task there tries again
            if isinstance(answer, str):
                broken.append(answer if name in answer else f"on {name}: {answer}")
        if broken:
            raise RunError("; ".join(dict.fromkeys(broken)))
        self.say(f"Ray: {len(nodes)} nodes, {sum(self._places(node) for node in nodes)} trainings at a time")

    def _places(self, node: Mapping[str, Any]) -> int:
        """Returns how many tasks a node has room for."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return min(int(node["Resources"].get(name, 0) / amount + 1e-9) for name, amount in wanted.items() if amount)

    def _look_for_resources(self) -> None:
        """Counts for how long no node has had what a task needs.

        Raises:
            RunError: where that is too long.
        """
        now = time.monotonic()
        if self._nodes():
            self._unfit = 0.0
        elif not self._unfit:
            self._unfit = now
        elif now - self._unfit >= self.patience:
            there = [f"{n['NodeManagerHostname']} {n['Resources'].get('CPU', 0):g} CPUs {n['Resources'].get('GPU', 0):g} GPUs" for n in self._ray.nodes() if n["Alive"]]
            raise RunError(
                f"for {self.patience:g} s no node of the Ray cluster has had the {self.cpus:g} CPUs and {self.gpus:g} GPUs that a task needs "
                f"(there: {'; '.join(there[:8]) or 'no node'}{' ...' if len(there) > 8 else ''}); give another --cpus-per-task or --gpus-per-task, or start "
                "nodes that have them: the same command goes on from here"
            )

    # -- as the crew ------------------------------------------------------------------------------------------------------

    def busy(self) -> list[Job]:
        """Returns the jobs that are given away and not over."""
        return [job for job, _ in self._jobs.values()]

    def free(self) -> bool:
        """Returns True: all that is asked for at a time waits in Ray, in this order."""
        return True

    def begin(self, job: Job) -> None:
        """Makes a job a task."""
        self._jobs[self._task.remote(self._setup, job_records(job, ""))] = (job, time.monotonic())

    def over(self) -> list[tuple[Job, list[Estimate] | Trouble]]:
        """Waits a little and returns what is over.

        Raises:
            RunError: where a node cannot do what is asked, or none has what a task needs any more.
            MachineError: where the cluster is gone.
        """
        waiting = list(self._jobs)
        try:
            ready, _ = self._ray.wait(waiting, num_returns=1, timeout=LOOK_EVERY)
            if ready:
                ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
            elif time.monotonic() - self._looked >= LOOK_AT_NODES:
                self._looked = time.monotonic()
                self._look_for_resources()
        except (OSError, self._ray.exceptions.RayError) as error:
            raise MachineError(f"the Ray cluster is gone: {in_one_line(error)}; the same command goes on, there or on another one") from error
        found = []
        for waited in ready:
            job, began = self._jobs.pop(waited)
            answer = self._answer(job, waited, time.monotonic() - began)
            if isinstance(answer, str):
                raise RunError(f"a node cannot do what is asked: {answer}")
            found.append((job, answer))
        return found

    def abandon(self) -> None:
        """Ends the tasks that nobody waits for any more."""
        for waited in self._jobs:
            self._ray.cancel(waited)
        self._jobs.clear()

    def _answer(self, job: Job, waited: Any, seconds: float) -> list[Estimate] | Trouble | str:
        """Returns what a task came to; a text where the node cannot do it at all."""
        try:
            records = self._ray.get(waited)
        except self._ray.exceptions.RayTaskError as error:
            # nothing of what is judged is raised in Ray's process: its archduel is another one, or there is none
            named = [line.strip() for line in str(error).splitlines() if RAISED.match(line.strip())]
            return f"archduel cannot be used there: {named[-1] if named else in_one_line(error)}"
        except self._ray.exceptions.RayError as error:
            return Trouble(f"Ray lost the task: {type(error).__name__}: {in_one_line(error)[:200]}", True, seconds)
        if records and records[0].get("event") == "broken":
            return str(records[0]["reason"])
        if not job.queries:
            return []
        outcome = read_outcome(job, records)
        return Trouble("a node answered something else", True, seconds) if outcome is None else outcome
