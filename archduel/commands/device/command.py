"""`archduel device`: a kit to measure on another device, and the devices that were measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archduel.commands.choices import OneOf
from archduel.commands.dialect import Group
from archduel.commands.options import AsJson, Quiet, Seed, add_command, numbers

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="what the device is called, such as pi4")]


def register(app: typer.Typer) -> None:
    """Adds the group to ``app``."""
    group = typer.Typer(cls=Group, help="Latency on another device: make a kit, add measurements, list, show, remove.", no_args_is_help=True)
    add_command(group, kit)
    add_command(group, add)
    add_command(group, list_, "list")
    add_command(group, show)
    add_command(group, remove)
    app.add_typer(group, name="device")


def kit(
    folder: Annotated[Path, typer.Argument(help="new folder to carry to the device")],
    space: Annotated[str, typer.Option(help="the space that will be searched: `archduel list spaces`; default the usual one, with parts of pretrained networks where weights are here")] = "",
    images: Annotated[str, typer.Option(help="sides of the images in pixels, such as 32 or 32,96")] = "32",
    channels: Annotated[int, typer.Option(help="1 for grey images, 3 for colours")] = 3,
    classes: Annotated[int, typer.Option(help="classes of the images")] = 10,
    networks: Annotated[int, typer.Option(help="networks to measure, at least 10")] = 20,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write networks as ONNX and a script that measures them on a device with python, numpy and onnxruntime alone.

    archduel device kit pi4/
    """
    from archduel.commands.device.kit import make_kit

    sides = numbers(images, "--images", int, example="32,96")
    made = make_kit(folder, space=space, sides=sides, in_channels=channels, classes=classes, n=networks, seed=seed, quiet=quiet)
    if not quiet:
        typer.echo(f"{len(made.networks)} networks and measure.py are in {folder}; on the device: pip install numpy onnxruntime && python measure.py")


def add(
    name: Name,
    measurements: Annotated[Path, typer.Option(help="measurements.csv, written by measure.py on the device")],
    kit: Annotated[Path | None, typer.Option(help="folder of the kit, where it was not made here")] = None,
    unit: Annotated[str, typer.Option(help="of the latencies in the file"), OneOf("ms", "s", "us")] = "ms",
    replace: Annotated[bool, typer.Option("--replace", help="take the place of a device of this name")] = False,
    as_json: AsJson = False,
) -> None:
    """Check measurements and keep the device, for `archduel search DATA --device-latency NAME --max-latency-ms 20`.

    archduel device add pi4 --measurements measurements.csv
    """
    from archduel.devices.store import add_device

    device = add_device(name, measurements, kit=kit, unit=unit, replace=replace)
    if as_json:
        typer.echo(json.dumps({"device": device.key, **device.record()}))
        return
    for sentence in device.sentences:
        typer.echo(f"{name}: {sentence}")


def list_(as_json: AsJson = False) -> None:
    """Print the devices that were added."""
    from archduel.devices.store import device_folder, known_devices, open_device

    names = known_devices()
    for name in names:
        device = open_device(name)
        facts = device.measured.facts
        if as_json:
            typer.echo(json.dumps({"device": name, "digest": device.digest, "networks": len(device.measured.rows), **facts}))
        else:
            typer.echo(f"{name:20}{len(device.measured.rows):>3} networks  {facts.get('machine', '')}")
    if not names and not as_json:
        typer.echo(f"none yet; `archduel device kit FOLDER` makes one to measure, and what comes back is kept in {device_folder()}")


def show(name: Name, as_json: AsJson = False) -> None:
    """Print what was measured on a device, and what the others tell of each network while it is left out."""
    from archduel.devices.store import open_device

    device = open_device(name)
    if as_json:
        typer.echo(json.dumps({"digest": device.digest, **device.record()}))
        return
    for sentence in device.sentences:
        typer.echo(sentence)
    built = {entry.network: entry for entry in device.kit.networks}
    typer.echo(f"{'network':12}{'measured':>12}{'left out':>12}  architecture")
    for (network, ms), told in zip(device.measured.rows.items(), device.predictor.left_out()):
        size = f"{built[network].scale['channels']} channels, {built[network].scale['image_size']} px"
        typer.echo(f"{network:12}{ms:>9.4g} ms{told:>9.4g} ms  {built[network].arch} ({size})")


def remove(name: Name) -> None:
    """Forget a device; runs that were searched with it keep what they found."""
    from archduel.devices.store import remove_device

    remove_device(name)
    typer.echo(f"{name} is removed")
