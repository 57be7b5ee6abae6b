"""Named architectures, texts of any kind, files described, random architectures, drawings: functions and commands."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archduel import registry
from archduel.commands import app
from archduel.commands.options import assignments
from archduel.commands.spaces.describe import at_most, describe, describe_file, sampled
from archduel.core import Arch, Scale
from archduel.errors import InfeasibleError, InvalidArchError, SettingError, TableError, UnknownNameError
from archduel.networks.zoo import counts_of_named, drawing, show, summaries
from archduel.spaces.darts.space import DARTS
from archduel.spaces.drawing import Diagram, diagrams, draw
from archduel.spaces.family import count, family
from archduel.spaces.lookup import facts, open_space, parse, resolve
from archduel.spaces.named import NAMED, named
from archduel.spaces.nasbench201.space import NASBench201

EMPTY = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception and code:
        return str(result.exception)
    assert result.exit_code == code, result.output
    return result.output


def test_every_space_on_the_menu_has_a_network_a_count_and_facts() -> None:
    for name in registry.names("space"):
        if registry.MENUS["space"][name] in registry.plug_ins("space"):
            continue  # another test's
        assert family(name).name == name
        assert family(name).build is not None
        assert family(name).count is not None
        told = facts(open_space(name))
        assert told["space"] == name
        assert told["size"] > 100
        arch = parse(open_space(name), told["example"])
        assert count(arch, family(name).scale).params > 1000


def test_all_published_architectures_are_there_and_valid() -> None:
    wanted = {"darts_v1", "darts_v2", "nasnet_a", "amoebanet_a", "cnas", "cnas_figure", "relativenas"}
    wanted |= {"ctnas_darts", "ctnas_nasbench101", "ctnas_mobile", "renas_nasbench101"}
    wanted |= {"resnet18", "resnet20"}
    wanted |= {f"{method}_bpe{recipe}" for method in ("ea", "rl", "darts", "rs") for recipe in (1, 2)}
    assert set(NAMED) == wanted
    assert len(summaries()) == 21
    for name, item in NAMED.items():
        shown = show(name)
        assert shown["source"]
        assert shown["reported"]
        assert all(cost["params"] > (2e5 if name == "resnet20" else 2e6) for cost in shown["counts"].values())
        if item.space:
            space = open_space(item.space)
            assert parse(space, name) == parse(space, item.text) == parse(space, shown["arch"])


def test_names_are_forgiving_and_unknown_ones_are_told() -> None:
    assert named("PairNAS") is named("relativenas")
    assert named("DARTS-V2") is named("darts_v2")
    with pytest.raises(UnknownNameError, match=r"did you mean 'cnas_figure'\?"):
        named("cnas_figur")


def test_the_574_million_of_darts_v2_are_explained() -> None:
    shown = show("darts_v2")
    assert shown["counts"]["ImageNet, C48 L14"]["macs"] == 529_911_552
    assert "574" in shown["note"]
    at_50 = counts_of_named(named("darts_v2"), Scale(50, 14, 224, 3, 1000)).macs
    assert at_50 / 1e6 == pytest.approx(573.47, abs=0.005)


def test_texts_of_every_kind_name_the_same_architecture() -> None:
    space = open_space("darts")
    arch = DARTS().read(named("darts_v2").text)
    for text in ("darts_v2", " DARTS-V2 ", named("darts_v2").text, str(arch), space.write(arch, "cnas")):
        assert parse(space, text) == arch
    assert (
        resolve("darts_v2") == resolve(str(arch)) or resolve("darts_v2")[1] == resolve(str(arch))[1] == arch
    )
    assert resolve(EMPTY, "nasbench201")[1] == Arch("nasbench201", (0,) * 6)
    with pytest.raises(InvalidArchError, match="--space"):
        resolve(EMPTY)
    with pytest.raises(InvalidArchError, match="belongs to mobilenetv3"):
        parse(space, "ctnas_mobile")
    with pytest.raises(InvalidArchError, match="expected one of"):
        parse(NASBench201(), "nasbench201:0.0.0.0.0.7")
    with pytest.raises(SettingError, match="foo"):
        open_space("darts", foo=1)


def test_descriptions_say_fingerprint_parameters_and_multiply_adds() -> None:
    space = NASBench201()
    (row,) = describe(space, [Arch("nasbench201", (0,) * 6)])
    assert row["text"] == EMPTY
    assert row["fingerprint"] == "out=0"
    assert (row["params"], row["macs"]) == (73_306, 7_783_040)
    assert row["index"] == space.index(Arch("nasbench201", (0,) * 6))
    (small,) = describe(space, [Arch("nasbench201", (0,) * 6)], Scale(4, 1, 8, 1))
    assert small["params"] < 10_000
    (hashed,) = describe(
        open_space("nasbench101"),
        [parse(open_space("nasbench101"), "0111|0011|0001|0000 input,conv3x3,conv3x3,output")],
    )
    assert hashed["fingerprint"] == "38e55ad9ee9194f5392fcccb3e54a4c3"
    assert (hashed["params"], hashed["macs"]) == (6_406_538, 951_456_768)


def test_files_are_described_row_by_row_and_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(
            [["arch_str", "x"], [EMPTY, 1], [EMPTY.replace("none~2", "skip_connect~2"), 2]]
        )
    rows = [
        json.loads(line)
        for line in run("describe", "--space", "nasbench201", "--file", str(path), "--json").splitlines()
    ]
    assert [(row["row"], row["params"]) for row in rows] == [(1, 73_306), (2, 73_306)]
    with open(path, "a") as file:
        file.write("|none~0|+|none~0|bad~1|+|none~0|none~1|none~2|,3\n")
    with pytest.raises(TableError, match=r"row 3.*'bad'"):
        list(describe_file("nasbench201", path))
    genotypes = tmp_path / "g.csv"
    with open(genotypes, "w", newline="") as file:
        csv.writer(file).writerows([["cell"], [named("relativenas").text]])
    (row,) = describe_file("darts", genotypes, columns={"arch": "cell"})
    assert row["params"] == 3_928_222
    with pytest.raises(TableError, match="node3"):
        list(describe_file("darts", genotypes, columns={"arch": "cell"}, settings={"preset": "bpe"}))


def test_samples_are_seeded_distinct_and_limited() -> None:
    space = open_space("darts", preset="darts")
    assert sampled(space, 5, 3) == sampled(space, 5, 3) != sampled(space, 5, 4)
    assert sampled(space, 5, 3, generator="bpe") != sampled(space, 5, 3)
    cells = sampled(NASBench201(), 300, distinct=True)
    assert len({NASBench201().fingerprint(arch) for arch in cells}) == 300
    limit = at_most(400_000)
    assert all(
        count(arch, Scale()).params <= 400_000 for arch in sampled(NASBench201(), 20, constraint=limit)
    )
    small = at_most(2.8e6)
    assert all(small(arch) for arch in sampled(space, 3, generator="bpe", constraint=small))
    with pytest.raises(InfeasibleError, match="loosen"):
        sampled(NASBench201(), 1, constraint=at_most(1000))
    with pytest.raises(SettingError, match="draws in darts"):
        sampled(NASBench201(), 1, generator="bpe")
    with pytest.raises(SettingError, match="at least 1"):
        sampled(space, 0)
    with pytest.raises(InfeasibleError, match="resnet has only 132 functionally different architectures, 133 were asked for"):
        sampled(open_space("resnet"), 133, distinct=True)


def test_settings_are_json_or_text() -> None:
    assert assignments(["preset=ctnas", "none=true", "ops=[1, 2]"]) == {
        "preset": "ctnas",
        "none": True,
        "ops": [1, 2],
    }
    with pytest.raises(SettingError, match="--set preset: expected NAME=VALUE"):
        assignments(["preset"])


def test_commands_print_what_the_functions_return(tmp_path: Path) -> None:
    assert run("sample", "nasbench201", "-n", "3").splitlines() == [
        str(arch) for arch in sampled(NASBench201(), 3)
    ]
    first = run("sample", "darts", "-n", "1", "--generator", "bpe", "--text")
    assert first.startswith("Genotype(normal=[('")
    assert "none" not in run("sample", "darts", "-n", "20", "--text")
    assert "none" in run("sample", "darts", "-n", "20", "--text", "--set", "preset=ctnas")
    assert json.loads(run("show", "cnas", "--json"))["counts"]["CIFAR-10, C36 L20"]["params"] == 3_695_374
    assert "3,695,374 params" in run("show", "cnas")
    assert "macs=564,024,960" in run("describe", "cnas")
    assert json.loads(run("describe", "cnas", "--json", "--classes", "100"))["params"] > 3_695_374
    assert "size=15,625" in run("describe", "--space", "nasbench201")
    assert len(run("list", "architectures").splitlines()) == 21
    assert "resnet" in run("list", "spaces").split()
    for menu in ("spaces", "strategies", "rankers", "policies", "trackers"):
        for line in run("list", menu).splitlines():
            assert len(line.split(maxsplit=1)[1]) > 10, line  # a name, and what it is
    out = tmp_path / "cell.svg"
    assert str(out) in run("draw", "amoebanet-a", "--out", str(out))
    assert "conv 7" in out.read_text()
    assert "unknown" in run("show", "foo", code=1)


def test_show_knows_spaces_and_recipes_and_both_of_one_name() -> None:
    assert json.loads(run("show", "stages", "--json"))["size"] == 11_664
    recipe = json.loads(run("show", "cifar_darts", "--json"))
    assert (recipe["settings"]["epochs"], recipe["settings"]["batch_size"]) == (600, 96)
    both = json.loads(run("show", "nasbench201", "--json"))
    assert set(both) == {"space", "recipe"}
    lines = run("show", "nasbench201").splitlines()
    assert lines[0] == "space nasbench201"
    assert "recipe nasbench201" in lines
    assert "did you mean 'darts_v2'? `archduel list architectures|spaces|recipes`" in run("show", "darts_v3", code=1)


def test_drawings_show_operations_once_and_leave_out_none() -> None:
    root = ElementTree.fromstring(drawing("ctnas_darts"))
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
    assert texts.count("normal cell") == texts.count("reduction cell") == 1
    assert "none" not in texts
    assert (
        sum(
            text in ("sep 3×3", "sep 5×5", "dil 3×3", "dil 5×5", "max 3×3", "avg 3×3", "skip")
            for text in texts
        )
        == 14
    )
    assert "prefers-color-scheme" in drawing("cnas")  # a file of its own brings its colours
    cell = draw(NASBench201(), Arch("nasbench201", (1, 0, 0, 3, 0, 0)))
    assert "prefers-color-scheme" not in cell
    assert cell.count("currentColor") > 5
    (part,) = diagrams(NASBench201(), Arch("nasbench201", (1, 0, 0, 3, 0, 0)))
    assert part == Diagram(
        "cell",
        ("input", "skip", "1", "2", "conv 3×3", "3", "output"),
        ((0, 1), (1, 2), (0, 4), (4, 5), (5, 6)),
        frozenset({2, 3, 5}),
    )


def test_spaces_unknown_to_the_drawing_are_drawn_as_their_answers() -> None:
    class Other(NASBench201):
        name = "other"

    (part,) = diagrams(Other(), Arch("other", (0, 1, 2, 3, 4, 0)))
    assert part.labels[1] == "edge 0->2 = 1"


def test_named_numbers_do_not_depend_on_global_randomness() -> None:
    np.random.seed(0)  # noqa: NPY002 - to see that nothing reads it
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    sampled(open_space("darts"), 3, generator="bpe")
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_the_page_on_spaces_runs_and_its_table_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "spaces.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)  # our own page
    assert capsys.readouterr().out.startswith("nasbench201:3.0.2.1.0.4\nc0=1(c1) c1=3(x) out=p(c0)+x\n")
    for preset in ("darts", "relativenas", "ctnas"):
        (row,) = re.findall(rf"^\| .*`{preset}`.* \| ([\d.]+e\d+) \|$", page, re.MULTILINE)
        assert f"{DARTS(preset).size:.1e}".replace("e+", "e") == row
    for command in re.findall(r"^archduel (?:show|draw|sample) (.*)$", page, re.MULTILINE):
        assert command.split()[0].strip('"').split(":")[0] in {*NAMED, *registry.names("space")}
