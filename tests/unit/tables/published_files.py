"""Writes small files in exactly the formats of the published benchmarks, for the readers' tests."""

from __future__ import annotations

import base64
import bz2
import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

SAMPLE = {
    "hash": "00005c142e6f48ac74fdcf73e3439874",
    "epochs": 4,
    "adjacency": "0100110001000000010010000010000001000000010000000",
    "ops": "input,conv3x3-bn-relu,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,conv1x1-bn-relu,output",
    "evaluations": [
        (0.0, 0.0, 0.1002604141831398, 0.09775640815496445, 0.09985977411270142),
        (2.0, 45.152000427246094, 0.10166265815496445, 0.10526842623949051, 0.10436698794364929),
        (4.0, 89.90399932861328, 0.3498597741127014, 0.3489583432674408, 0.3504607379436493),
    ],
    "params": 8_555_530,
    "total_time": 413.7015450000763,
}
"""The one original record that is known in full (a 4-epoch training): 401 bytes of data."""


# ---------------------------------------------------------------- NAS-Bench-101


def crc32c(data: bytes) -> int:
    """The checksum bit by bit, straight from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def frame(data: bytes) -> bytes:
    """One TFRecord."""
    length = len(data).to_bytes(8, "little")
    return length + masked(length) + data + masked(data)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def metrics(evaluations: Iterable[Sequence[float]], params: int, total_time: float) -> bytes:
    """A ModelMetrics message."""
    parts = [b"".join(struct.pack("<Bd", 8 * (i + 1) + 1, v) for i, v in enumerate(e)) for e in evaluations]
    body = b"".join(b"\x0a" + varint(len(part)) + part for part in parts)
    return body + b"\x10" + varint(params) + struct.pack("<Bd", 0x19, total_time)


def record(
    hash: str, epochs: int, adjacency: str, ops: str, evaluations: Any, params: int, total_time: float = 1.0
) -> bytes:
    """The data of one record, as the benchmark's authors wrote it."""
    text = base64.encodebytes(metrics(evaluations, params, total_time)).decode("ascii")
    return json.dumps([hash, epochs, adjacency, ops, text]).encode()


# ---------------------------------------------------------------- NAS-Bench-201 and NATS-Bench

SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}


def trial(name: str, seed: int, epochs: int, base: float, arch_str: str) -> dict[str, Any]:
    """One training with every entry of the original; its last accuracy on a set is ``accuracy(...)``."""
    last = {name_: base + i for i, name_ in enumerate(SETS[name])}
    keys = [f"{set_}@{epoch}" for set_ in SETS[name] for epoch in range(epochs)]
    return {
        "name": name,
        "net_state_dict": None,
        "train_acc1es": {epoch: base - epochs + epoch + 1 for epoch in range(epochs)},
        "train_losses": {epoch: 2.0 / (epoch + 1) for epoch in range(epochs)},
        "train_acc5es": None,
        "train_times": OrderedDict((epoch, 12.5) for epoch in range(epochs)),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": arch_str, "class_num": 10},
        "params": np.float64(0.129306),
        "flop": 15.64737,
        "seed": f"{seed:04d}",
        "epochs": epochs,
        "latency": [np.float64(0.014), np.float64(0.016)],
        "eval_names": list(SETS[name]),
        "eval_acc1es": {key: last[key.split("@")[0]] - epochs + 1 + int(key.split("@")[1]) for key in keys},
        "eval_losses": dict.fromkeys(keys, 1.5),
        "eval_times": dict.fromkeys(keys, 4.0),
    }


def state(
    index: int, arch_str: str, epochs: int, seeds: Mapping[str, Sequence[int]], base: float
) -> dict[str, Any]:
    """What is recorded for a cell under one schedule; seed 888 is a tenth of a point better than 777, and so on."""
    results = {
        (name, seed): trial(
            name, seed, epochs, base + (seed - 777) / 1110 + 10 * list(SETS).index(name), arch_str
        )
        for name, some in seeds.items()
        for seed in some
    }
    return {
        "arch_index": index,
        "arch_str": arch_str,
        "all_results": results,
        "dataset_seed": {name: sorted(some) for name, some in seeds.items()},
        "clear_net_done": True,
    }


def cell(
    index: int, arch_str: str, *, names: tuple[str, str] = ("12", "200"), seeds: Sequence[int] = (777, 888)
) -> Any:
    """Both schedules of a cell; the long one is 40 epochs here, to keep tests quick."""
    short = state(
        index,
        arch_str,
        12,
        {"cifar10-valid": (111, 777), "cifar10": (111,), "cifar100": (111,)},
        30 + index / 20,
    )
    long = state(index, arch_str, 40, dict.fromkeys(SETS, seeds), 50 + index / 20)
    return OrderedDict([(names[0], short), (names[1], long)])


def write_pbz2(path: Path, value: object, protocol: int = 4) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(value, protocol)))


# ---------------------------------------------------------------- xlsx


def write_xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], *, inline: bool = False) -> None:
    """A workbook as spreadsheet programs write it: shared texts, or inline ones."""
    shared: dict[str, int] = {}

    def xml(row: int, column: int, value: Any) -> str:
        name = ""
        number = column + 1
        while number:
            number, letter = divmod(number - 1, 26)
            name = chr(65 + letter) + name
        if value is None:
            return ""
        if not isinstance(value, str):
            return f'<c r="{name}{row + 1}"><v>{value!r}</v></c>'
        if inline:
            return f'<c r="{name}{row + 1}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        return f'<c r="{name}{row + 1}" t="s"><v>{shared.setdefault(value, len(shared))}</v></c>'

    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        listed, related = "", ""
        for i, (name, rows) in enumerate(sheets.items(), 1):
            body = "".join(
                f'<row r="{r + 1}">{"".join(xml(r, c, value) for c, value in enumerate(row))}</row>'
                for r, row in enumerate(rows)
            )
            archive.writestr(
                f"xl/worksheets/sheet{i}.xml",
                f"{head}<worksheet {main}><sheetData>{body}</sheetData></worksheet>",
            )
            listed += f'<sheet name={quoteattr(name)} sheetId="{i}" r:id="rId{i}"/>'
            related += (
                f'<Relationship Id="rId{i}" Type="{office}/worksheet" Target="worksheets/sheet{i}.xml"/>'
            )
        archive.writestr(
            "xl/workbook.xml",
            f'{head}<workbook {main} xmlns:r="{office}"><sheets>{listed}</sheets></workbook>',
        )
        package = "http://schemas.openxmlformats.org/package/2006/relationships"
        archive.writestr(
            "xl/_rels/workbook.xml.rels", f'{head}<Relationships xmlns="{package}">{related}</Relationships>'
        )
        texts = "".join(f"<si><t>{escape(text)}</t></si>" for text in shared)
        archive.writestr("xl/sharedStrings.xml", f"{head}<sst {main}>{texts}</sst>")


def genotypes(n: int, seed: int = 0) -> list[str]:
    """Random DARTS genotypes in BPE's text form."""
    rng = random.Random(seed)
    ops = (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )

    def one() -> str:
        return str([[(rng.choice(ops), s) for s in rng.sample(range(node), 2)] for node in range(2, 6)])

    return [
        f"Genotype(normal={one()}, normal_concat=range(2, 6), reduce={one()}, reduce_concat=range(2, 6))"
        for _ in range(n)
    ]
