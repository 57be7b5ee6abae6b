"""Queries and other jobs run here, in worker processes of this machine, wherever workers join, or on a cluster."""

from archduel.execution.cluster import RayTasks
from archduel.execution.folder import Folder
from archduel.execution.joined import join
from archduel.execution.judging import GroupJudge, Judge, Sequential
from archduel.execution.pool import as_they_finish
from archduel.execution.processes import end_with_parent
from archduel.execution.workers import IDLE, Processes

__all__ = ["IDLE", "Folder", "GroupJudge", "Judge", "Processes", "RayTasks", "Sequential", "as_they_finish", "end_with_parent", "join"]
