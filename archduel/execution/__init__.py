"""Queries and other jobs run here or in worker processes of this machine."""

from archduel.execution.judging import GroupJudge, Judge, Sequential
from archduel.execution.pool import as_they_finish
from archduel.execution.processes import end_with_parent
from archduel.execution.workers import IDLE, Processes

__all__ = ["IDLE", "GroupJudge", "Judge", "Processes", "Sequential", "as_they_finish", "end_with_parent"]
