"""`archduel eval`: the right images, the right numbers, and what is refused."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import judged_network as net
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from archduel.commands import app, int8
from archduel.commands.network.evaluate import answers, evaluate_network, text_of
from archduel.commands.network.test_images import open_test_set
from archduel.commands.search.final import images_facts
from archduel.commands.search.settings import make_settings
from archduel.data import load
from archduel.errors import DataError, RunError, SettingError, UnknownNameError
from archduel.networks.trained import RECORD, load_trained
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("net")
    net.teach(net.save_network(root / "net"), net.write_images(root / "learn"))
    return root / "net"


def test_the_numbers_are_those_of_the_metrics(folder: Path, tmp_path: Path) -> None:
    squares = net.write_images(tmp_path / "squares", n=5, seed=1)
    record = evaluate_network(folder, squares, batch_size=4, corruptions=["contrast", "jpeg"], severities=[5])
    model, _ = load_trained(folder)
    data = load(squares, image_size=8, rule="crop")
    images = np.concatenate([data.train.images, data.validation.images, data.test.images])
    labels = np.concatenate([data.train.labels, data.validation.labels, data.test.labels])
    expected = evaluate(model, Pixels(images, labels, (0.5,) * 3, (0.25,) * 3))
    assert record["data"]["split"] == "whole set"
    assert record["data"]["pictures"] == 15
    assert record["top1"] == pytest.approx(expected.accuracy)
    assert record["top5"] == 1.0
    assert record["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert record["confusion"] == expected.confusion.tolist()
    assert sum(n for _, _, n in record["confused"]) == (expected.predictions != expected.labels).sum()
    assert sum(row["pictures"] for row in record["per_class"]) == 15
    assert sum(row["pictures"] for row in record["calibration"]) == 15
    assert {(row["kind"], row["severity"]) for row in record["corruptions"]["rows"]} == {("contrast", 5), ("jpeg", 5)}
    assert record["top1"] > 0.6  # it learned these colours
    assert json.loads((folder / RECORD).read_text())["top1"] == record["top1"]
    assert any("contrast" in line for line in text_of(record))


def test_a_part_of_a_published_network_reads_test_images_as_quickly_as_its_run_did(tmp_path: Path) -> None:
    class Enlarging(torch.nn.Module):
        works_at = 224

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((len(x), x.is_contiguous(memory_format=torch.channels_last)))
            return x.mean((2, 3))

    seen: list[tuple[int, bool]] = []
    images = net.write_images(tmp_path / "all", n=12)
    network = SimpleNamespace(model=Enlarging(), facts=net.facts_of())
    found, _ = answers(network, open_test_set(images, net.facts_of()))  # type: ignore[arg-type]
    assert len(found["", 0].labels) == 36
    assert sum(n for n, _ in seen) == 36
    assert max(n for n, _ in seen) <= 8  # parts that the caches hold
    assert all(last for _, last in seen)


def test_the_test_split_of_its_own_data_is_the_one_that_was_held_out(tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "all", n=10)
    folder = net.save_network(tmp_path / "net", data={"name": str(images)})
    facts = json.loads((folder / "model.json").read_text()) | {"seed": 3}
    (folder / "model.json").write_text(json.dumps(facts))
    test_set = open_test_set(None, facts)
    data = load(images, image_size=8, seed=3)
    assert sorted(test_set.source.names[row] for row in test_set.rows) == sorted(data.test.names)
    assert "held out" in evaluate_network(tmp_path / "net")["data"]["split"]


def test_a_run_with_a_share_for_validation_of_its_own_is_split_as_it_was(tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "all", n=20)
    settings = make_settings(data=str(images), validation=0.5)
    data = load(images, image_size=8, validation=0.5)
    facts = net.facts_of() | {"seed": settings.seed, "data": images_facts(settings, data)}
    test_set = open_test_set(None, facts)
    assert sorted(test_set.source.names[row] for row in test_set.rows) == sorted(data.test.names)
    of_int8 = int8._images(SimpleNamespace(facts=facts), None)  # type: ignore[arg-type]
    assert [sorted(part.names) for part in (of_int8.train, of_int8.validation, of_int8.test)] == [
        sorted(part.names) for part in (data.train, data.validation, data.test)
    ]


def facts_after(images: Path, **settings: Any) -> dict[str, Any]:
    """Returns what a run on a folder keeps in its network of which images there were."""
    return net.facts_of() | {"seed": 0, "data": images_facts(make_settings(data=str(images), **settings), load(images, image_size=8, **settings))}


@pytest.mark.parametrize("settings", [{}, {"max_images": 40}])
def test_images_that_were_exchanged_since_the_training_are_noticed_though_there_are_as_many(settings: dict[str, Any], tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "all", n=20)
    facts = facts_after(images, **settings)
    assert open_test_set(None, facts).notes == ()
    (images / "blue" / "3.png").rename(images / "green" / "new.png")
    (note,) = open_test_set(None, facts).notes
    assert note.startswith("images were added, removed or renamed since the network was trained")
    facts["data"].pop("listing")  # of a version that kept but their number
    assert open_test_set(None, facts).notes == ()


def test_where_test_images_are_given_others_may_come_and_go(tmp_path: Path) -> None:
    for name in ("train", "test"):
        net.write_images(tmp_path / "set" / name, n=6)
    facts = facts_after(tmp_path / "set")
    (tmp_path / "set" / "train" / "blue" / "3.png").unlink()
    assert open_test_set(None, facts).notes == ()


def test_a_copy_of_the_images_it_was_trained_on_is_no_test_set_without_a_word(tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "all", n=8)
    facts = facts_after(images)
    shutil.copytree(images, tmp_path / "copy")
    test_set = open_test_set(tmp_path / "copy", facts)
    assert test_set.split == "whole set"
    assert "in a copy of them are images that it learned from" in test_set.notes[0]
    (tmp_path / "copy" / "blue" / "3.png").unlink()
    assert open_test_set(tmp_path / "copy", facts).notes == ()


def test_given_splits_are_respected(tmp_path: Path) -> None:
    for name in ("train", "val"):
        net.write_images(tmp_path / "set" / name, n=4)
    assert len(open_test_set(tmp_path / "set", net.facts_of())) == 12
    assert open_test_set(tmp_path / "set", net.facts_of()).split.startswith("given validation split")
    net.write_images(tmp_path / "set" / "test", n=2)
    test_set = open_test_set(tmp_path / "set", net.facts_of())
    assert test_set.split == "given test split"
    assert len(test_set) == 6
    assert len(test_set.first(3)) == 3


def test_training_images_are_refused(folder: Path, tmp_path: Path) -> None:
    net.write_images(tmp_path / "set" / "train", n=4)
    with pytest.raises(DataError, match="training split by its name"):
        evaluate_network(folder, tmp_path / "set" / "train")
    with pytest.raises(SettingError, match="--split train"):
        evaluate_network(folder, tmp_path / "set", split="train")
    with pytest.raises(DataError, match="neither test/ nor val/"):
        evaluate_network(folder, tmp_path / "set")


@pytest.mark.parametrize("form", ["flat", "archives"])
def test_imagenet_as_it_comes(folder: Path, tmp_path: Path, form: str) -> None:
    whole = evaluate_network(folder, net.write_images(tmp_path / "folders", n=3, seed=2))
    net.write_images(tmp_path / "set" / "train", n=2)
    if form == "flat":  # val/ without class folders, and the list beside it
        net.write_images(tmp_path / "set" / "val", n=3, seed=2, flat=True)
    else:
        for split, images in (("train", tmp_path / "set" / "train"), ("val", tmp_path / "folders")):
            with tarfile.open(tmp_path / "set" / f"{split}-000.tar", "w") as archive:
                for path in sorted(images.glob("*/*.png")):
                    archive.add(path, f"{path.parent.name}/{path.name}")
        shutil.rmtree(tmp_path / "set" / "train")
    record = evaluate_network(folder, tmp_path / "set")
    assert record["confusion"] == whole["confusion"]
    assert record["data"]["split"] == "given test split"


def test_a_class_called_train_is_no_split(folder: Path, tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "vehicles", n=2)
    (images / "red").rename(images / "train")
    facts = net.facts_of() | {"classes": ["blue", "green", "train"]}
    assert len(open_test_set(images, facts)) == 6


def test_arrays_and_datasets_are_taken(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (9, 8, 8, 3)).astype(np.uint8), np.arange(9) % 3
    first = evaluate_network(folder, (images, labels))
    assert first["data"]["pictures"] == 9
    items = [(Image.fromarray(image), int(label)) for image, label in zip(images, labels)]
    assert evaluate_network(folder, items)["confusion"] == first["confusion"]


@pytest.mark.parametrize("form", ["names", "kaggle", "one a line", "numbers by name"])
def test_a_flat_folder_takes_its_labels_from_a_file(folder: Path, tmp_path: Path, form: str) -> None:
    images = net.write_images(tmp_path / "flat", n=3, flat=True)
    whole = evaluate_network(folder, net.write_images(tmp_path / "folders", n=3))
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    if form == "kaggle":
        lines = ["ImageId,PredictionString", *(line.replace(" ", ",", 1) for line in lines)]
    if form == "one a line":
        lines = [line.split()[1] for line in sorted(lines)]
    if form == "numbers by name":
        lines = [f"{line.split()[0]}.png {net.CLASSES.index(line.split()[1])}" for line in lines]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    record = evaluate_network(folder, images, labels=tmp_path / "labels.txt")
    assert record["confusion"] == whole["confusion"]


def test_a_network_without_class_names_goes_by_their_order(tmp_path: Path) -> None:
    net.teach(net.save_network(tmp_path / "net"), net.write_images(tmp_path / "learn"))
    whole = evaluate_network(tmp_path / "net", tmp_path / "learn")
    facts = json.loads((tmp_path / "net" / "model.json").read_text())
    (tmp_path / "net" / "model.json").write_text(json.dumps(facts | {"classes": ["0", "1", "2"]}))
    assert evaluate_network(tmp_path / "net", tmp_path / "learn")["confusion"] == whole["confusion"]
    flat = net.write_images(tmp_path / "flat", flat=True)
    assert evaluate_network(tmp_path / "net", flat, labels=tmp_path / "labels.txt")["confusion"] == whole["confusion"]
    (flat / "r0.png").unlink()
    for name in ("r1", "r2", "r3", "r4", "r5"):
        (flat / f"{name}.png").unlink()
    with pytest.raises(DataError, match="the class 'blue'"):  # two of three names: their order is not known
        evaluate_network(tmp_path / "net", flat, labels=tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("names", "matched"),
    [
        (("3", "4", "5"), "0 = 3, 1 = 4, 2 = 5"),  # none is the network's
        (("0", "1", "zwei"), "0 = 0, 1 = 1, 2 = zwei"),
        (("1", "2", "3"), "0 = 1, 1 = 2, 2 = 3"),  # counted from 1
        ((" 1", "0", "2"), ""),  # sorted before the others: by order every class would be another one
        (("1", "2", "zwei"), ""),
    ],
)
def test_order_decides_only_where_no_name_says_otherwise_and_is_told(names: tuple[str, ...], matched: str, tmp_path: Path) -> None:
    network = net.save_network(tmp_path / "net")
    facts = json.loads((network / "model.json").read_text()) | {"classes": ["0", "1", "2"]}
    images = net.write_images(tmp_path / "test_set", n=1)
    for before, name in zip(sorted(path.name for path in images.iterdir()), names):
        (images / before).rename(images / name)
    if matched:
        assert open_test_set(images, facts).notes == (f"classes are matched by their order, for one side has but numbers: {matched}",)
        return
    with pytest.raises(DataError, match="of which the network does not know"):
        open_test_set(images, facts)


def test_labels_that_say_too_little_are_refused(folder: Path, tmp_path: Path) -> None:
    images, labels = net.write_images(tmp_path / "flat", n=1, flat=True), tmp_path / "labels.txt"
    for text, words in (("1\n2\n3", "bare numbers"), ("b0 blue", "no label for 2 of 3"), ("blue", "1 labels for 3"), ("b0 x\ng0 x\nr0 x", "the class 'x'")):
        labels.write_text(text)
        with pytest.raises(DataError, match=words):
            evaluate_network(folder, images, labels=labels)


def test_classes_that_the_network_does_not_know_are_named(folder: Path, tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "test_set", n=2)
    (images / "red").rename(images / "pink")
    with pytest.raises(DataError, match=r"1 of which the network does not know \(pink\)"):
        evaluate_network(folder, images)


def test_unreadable_images_are_skipped_and_named(folder: Path, tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "test_set", n=2)
    (images / "red" / "0.png").write_bytes(b"no image")
    record = evaluate_network(folder, images)
    assert record["data"]["pictures"] == 5
    assert list(record["data"]["skipped"]) == ["red/0.png"]
    assert "skipped      1 image that cannot be read: 'red/0.png'" in text_of(record)
    assert record["data"]["notes"] == []


def test_classes_without_images_are_told(folder: Path, tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "test_set", n=2)
    shutil.rmtree(images / "red")
    record = evaluate_network(folder, images)
    assert record["data"]["notes"] == ["there is no image of 1 of the 3 classes that the network knows: 'red'"]
    assert record["confusion"][record["classes"].index("red")] == [0, 0, 0]


def test_what_was_found_out_is_told_where_it_cannot_be_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*given: Any) -> None:
        raise OSError(30, "Read-only file system")

    images = net.write_images(tmp_path / "test_set", n=2)
    monkeypatch.setattr("archduel.commands.network.evaluate.write_atomic", read_only)
    done = CliRunner().invoke(app, ["eval", str(folder), "--data", str(images)])
    assert done.exit_code == 0, done.exception
    assert "top-1" in done.output
    assert f"this record is not kept: {folder / RECORD}: Read-only file system" in done.output


def test_bad_settings_are_refused_in_words(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no trained network"):
        evaluate_network(tmp_path, "digits")
    with pytest.raises(UnknownNameError, match="did you mean 'noise'"):
        evaluate_network(folder, "digits", corruptions=["noize"])
    with pytest.raises(SettingError, match="1 to 5"):
        evaluate_network(folder, "digits", corruptions=["noise"], severities=[9])
    with pytest.raises(SettingError, match="--data"):
        evaluate_network(folder)
    with pytest.raises(SettingError, match="torch cannot use it"):
        evaluate_network(folder, "digits", device="cuda:99")


def test_the_command_prints_and_writes(folder: Path, tmp_path: Path) -> None:
    images = net.write_images(tmp_path / "test_set", n=2, seed=5)
    arguments = ["eval", str(folder), "--data", str(images), "--corrupt", "all", "--severity", "2", "--out", str(tmp_path / "r" / "e.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "top-1" in done.output
    record = json.loads((tmp_path / "r" / "e.json").read_text())
    assert len(record["corruptions"]["rows"]) == 4
    assert torch.tensor(record["confusion"]).sum() == 6
