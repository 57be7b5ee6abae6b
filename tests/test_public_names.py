"""The public names: each is there, listed, the only kind that documentation shows, light to import, and typed."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import archduel

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "archduel"
LAZY = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in PACKAGE.rglob("__init__.py")
    if "lazy(\n" in path.read_text(encoding="utf-8")
)
EAGER = ["archduel.core", "archduel.data", "archduel.export"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = [ROOT / "hubconf.py", *sorted((ROOT / "examples").glob("*.py"))]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def homes(package: str) -> dict[str, str]:
    """Returns what a package's call of ``lazy`` says: public name -> ``module`` or ``module:name``."""
    path = ROOT.joinpath(*package.split(".")) / "__init__.py"
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy"
    ]
    assert len(calls) == 1, f"{package} calls `lazy` {len(calls)} times; once is expected"
    value = ast.literal_eval(calls[0].args[1])
    assert isinstance(value, dict)
    return value


def typed(package: str) -> dict[str, str]:
    """Returns what a package's imports for type checkers say, in the same form."""
    path = ROOT.joinpath(*package.split(".")) / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING")
    return {
        alias.asname or alias.name: f"{node.module}:{alias.name}" if alias.asname else str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imported(code: str) -> list[tuple[str, str]]:
    """Returns (module, name) for every name that ``code`` imports from archduel; the name is empty for ``import module``."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "archduel":
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "archduel"]
    return found


def exists(module: str, name: str) -> bool:
    """Returns whether ``from module import name`` works."""
    home = importlib.import_module(module)
    if not name or hasattr(home, name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize("package", [*LAZY, *EAGER])
def test_every_public_name_is_there_and_listed(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__, f"{package} names nothing public"
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert not isinstance(value, ModuleType), f"{package}.{name} is the module of that name, not what it should hold"
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = module.nonsense


@pytest.mark.parametrize("package", LAZY)
def test_types_and_list_say_what_the_lazy_names_say(package: str) -> None:
    assert typed(package) == {
        name: home.removesuffix(f":{name}") for name, home in homes(package).items()
    }
    assert sorted(homes(package)) == sorted(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", LAZY)
def test_no_public_name_is_also_a_module(package: str) -> None:
    folder = ROOT.joinpath(*package.split("."))
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    same = modules & set(homes(package))
    assert not same, f"importing {package}.{min(same, default='')} would put the module in the place of the name"


@pytest.mark.parametrize("package", LAZY)
def test_a_package_of_names_imports_nothing_before_they_are_used(package: str) -> None:
    code = (
        f"import sys, {package}; before = {{m for m in sys.modules if m.startswith('archduel.')}};"
        f"print(*(before - {{'archduel._lazy', {package!r}}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_root_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, archduel; archduel.__version__; print(*({'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_module_of_the_package_asks_the_root_for_a_name() -> None:
    """Else the root, which knows every command, and the commands would be a circle."""
    public = set(archduel.__all__)
    asking = [
        f"{path.relative_to(ROOT)}: {name or module}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for module, name in imported(path.read_text(encoding="utf-8"))
        if module == "archduel" and (not name or name in public)
    ]
    assert not asking, f"import from the module that defines it: {asking}"


def shown() -> list[tuple[str, str, str]]:
    """Returns (file, module, name) for every import in documentation, examples and hubconf."""
    pages = [(page.name, block) for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    scripts = [(path.name, path.read_text(encoding="utf-8")) for path in SCRIPTS]
    return [(file, module, name) for file, code in [*pages, *scripts] for module, name in imported(code)]


def test_documentation_and_examples_show_public_names_alone() -> None:
    assert len(shown()) > 50
    for file, module, name in shown():
        package = importlib.import_module(module)
        deep = module.count(".") > 1 or (module.count(".") == 1 and not hasattr(package, "__path__") and module != "archduel.errors")
        assert not deep, f"{file} imports {module}; show a public name of archduel or of one of its packages"
        if name:
            assert name in package.__all__, f"{file} imports {name} from {module}, which does not name it in __all__"


@pytest.mark.parametrize("path", [*BENCHMARKS, *SCRIPTS], ids=lambda path: path.name)
def test_what_scripts_import_exists(path: Path) -> None:
    missing = [f"{module}.{name}" for module, name in imported(path.read_text(encoding="utf-8")) if not exists(module, name)]
    assert not missing


TYPED = """
import numpy as np
from torch import nn

import archduel
from archduel import Arch, Scale, build, choose, count, parse, repeat, switch
from archduel.rankers import Jury
from archduel.spaces import NASBench201
from archduel.tables import Table

arch: Arch = parse("nasbench201:3.1.2.3.3.3")
jury: Jury = Jury(NASBench201(), seed=0)
jury.fit([arch], [0.5])
wins: np.ndarray = jury.prob([arch], [arch])
params: float = count(arch, Scale()).params
network = build(arch, Scale())
run: archduel.Run = archduel.search("digits", time="20m")
table: Table = Table.open("mine.table")
version: str = archduel.__version__


class Mine(nn.Module):
    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        width: int = choose("width", [8, 16])
        self.body: nn.Sequential = repeat("blocks", lambda i: nn.Conv2d(in_channels, width, 1), [1, 2])
        self.act: nn.Module = switch("act", {"relu": nn.ReLU, "silu": nn.SiLU})


def evaluate(model: nn.Module) -> float:
    return 0.5


own = archduel.space_of(Mine) + archduel.recipe_space(lr=[0.1, 0.2])
study: archduel.Study = archduel.search_space(own, evaluate, evaluations=3)
score: float = study.best.score
bench = archduel.compare(["best", "random"], archduel.table("digits201"), queries=10, runs=2)
rows: list[dict[str, object]] = list(bench.table())
strategy: archduel.Strategy = archduel.make_strategy("random", archduel.space({"a": [1, 2]}), seed=0)
"""


@pytest.mark.slow  # mypy reads the whole package
def test_public_names_are_typed(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api", reason="needs mypy")
    good, wrong = tmp_path / "good.py", tmp_path / "wrong.py"
    good.write_text(TYPED)
    wrong.write_text("import archduel\n\narchduel.serach('digits')\nnumber: int = archduel.__version__\n")
    said, errors, code = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--strict", str(good), str(wrong)])
    assert not errors
    lines = [line for line in said.splitlines() if ": error:" in line]
    assert [line for line in lines if "good.py" in line] == []
    assert sum("wrong.py" in line for line in lines) == 2, said
    assert len(lines) == 2, said
    assert code == 1
