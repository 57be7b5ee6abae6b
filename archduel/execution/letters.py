"""What drivers and workers of different machines write to each other: the records of a journal, and nothing that is executed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from archduel.core import Estimate
from archduel.core.storage import estimate_record, query_record, record_estimate, record_query
from archduel.execution.tries import Job, Trouble

__all__ = ["identity_of", "job_digest", "job_records", "outcome_records", "read_job", "read_outcome"]

Records = Sequence[Mapping[str, Any]]


def identity_of(about: Mapping[str, Any]) -> str:
    """Returns a digest of what decides an answer beside query and seed: equal texts give equal answers."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def job_digest(identity: str, job: Job) -> str:
    """Returns a digest of all that decides a job's answers; whoever computes them, and when, they are the same."""
    asked = [[query_record(query), seed] for query, seed in zip(job.queries, job.seeds)]
    return hashlib.sha256(json.dumps([identity, asked]).encode()).hexdigest()[:16]


def job_records(job: Job, identity: str) -> list[dict[str, Any]]:
    """Returns the records of a job: one about it, one a query."""
    head = {"event": "task", "identity": identity, "failures": job.failures}
    each = zip(job.ordinals, job.seeds, job.queries)
    return [head, *({"event": "query", "ordinal": ordinal, "seed": seed, **query_record(query)} for ordinal, seed, query in each)]


def read_job(records: Records) -> tuple[Job, str] | None:
    """Returns the job of such records and the identity of what it belongs to, None where they are not whole."""
    try:
        head, *rest = records
        queries = [record_query(record) for record in rest]
        seeds, ordinals = ([int(record[name]) for record in rest] for name in ("seed", "ordinal"))
        if not queries or head["event"] != "task":
            return None
        return Job(0, 0, queries, seeds, int(head["failures"]), ordinals=ordinals), str(head["identity"])
    except (KeyError, TypeError, ValueError):
        return None


def outcome_records(job: Job, outcome: list[Estimate] | Trouble) -> list[dict[str, Any]]:
    """Returns the records of what a job came to: one about it, one an estimate. What is no JSON becomes a failure that says so."""
    if isinstance(outcome, list):
        estimates = list(zip(job.ordinals, job.queries, map(_plain, outcome)))
        return [{"event": "done"}, *(estimate_record(*each) for each in estimates)]
    head = {"event": "trouble", "reason": outcome.reason, "machine": outcome.machine, "seconds": outcome.seconds, "hung": outcome.hung, "short": outcome.short}
    return [head, *([estimate_record(job.ordinals[0], job.queries[0], outcome.answer)] if outcome.answer else [])]


def _plain(estimate: Estimate) -> Estimate:
    try:
        json.dumps(dict(estimate.values))
    except (TypeError, ValueError) as error:
        return Estimate(math.nan, estimate.cost, {}, f"the answer cannot be sent: {error}")
    return estimate


def read_outcome(job: Job, records: Records) -> list[Estimate] | Trouble | None:
    """Returns what a job came to, None where the records are not whole or are of another job."""
    try:
        head, *rest = records
        estimates = [record_estimate(record) for record in rest]
        if head["event"] == "done":
            return estimates if [record_query(record) for record in rest] == job.queries else None
        if head["event"] != "trouble":
            return None
        answer = estimates[0] if estimates else None
        return Trouble(str(head["reason"]), bool(head["machine"]), float(head["seconds"]), bool(head["hung"]), answer, bool(head["short"]))
    except (KeyError, TypeError, ValueError):
        return None
