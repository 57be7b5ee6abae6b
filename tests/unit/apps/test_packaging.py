"""What a package says of itself is said once, or the same everywhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from archduel.commands.runs.doctor import EXTRAS, NEEDED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]


def project() -> dict[str, Any]:
    """Returns the section ``project`` of pyproject.toml."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def names(requirements: list[str]) -> set[str]:
    """Returns the packages of requirements."""
    return {re.split(r"[\[<>=; ]", requirement)[0] for requirement in requirements}


def test_the_version_is_one() -> None:
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == project()["version"]


def test_all_is_every_extra_for_users() -> None:
    extras = project()["optional-dependencies"]
    said = re.search(r"\[(.*)\]", extras["all"][0])
    assert said is not None
    # what brings a hundred packages of its own is for who uses it
    assert set(said[1].split(",")) == set(extras) - {"all", "dev", "docs", "mlflow", "wandb", "ray"}


def test_the_doctor_knows_what_is_asked_for() -> None:
    asked = project()
    assert set(NEEDED) <= names(asked["dependencies"])
    for extra, packages in EXTRAS.items():
        assert set(packages) == names(asked["optional-dependencies"][extra]), extra


def test_every_dependency_has_a_floor() -> None:
    asked = project()
    for requirement in [*asked["dependencies"], *(r for name, part in asked["optional-dependencies"].items() if name != "all" for r in part)]:
        assert ">=" in requirement, requirement
