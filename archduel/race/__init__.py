"""The race for the hand-over: everything that is trained competes, and most of the time trains the network that is handed over."""

from archduel.race.alone import Stretch, train_alone
from archduel.race.candidates import Candidate
from archduel.race.clock import Clock, Processor, Wall
from archduel.race.fronts import Member, Tradeoff
from archduel.race.run import RaceResult, race_recipe, run_race

__all__ = ["Candidate", "Clock", "Member", "Processor", "RaceResult", "Stretch", "Tradeoff", "Wall", "race_recipe", "run_race", "train_alone"]
