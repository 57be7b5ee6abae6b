"""NAS-Bench-101: the whole space, its decision tree and its hashes against published numbers and a plain enumeration."""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import Arch, enumerate_space
from archduel.spaces.nasbench101.arrays import canonical, kept_matrices, pack
from archduel.spaces.nasbench101.cell import OPS
from archduel.spaces.nasbench101.enumeration import enumerate_cells, hash_cells, hash_texts, md5_rows
from archduel.spaces.nasbench101.space import NASBench101

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "nasbench101.json").read_text())
SPACE = NASBench101()


def n_edges(edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return sum((edges >> np.uint32(bit) & np.uint32(1)).astype(int) for bit in range(21))  # type: ignore[return-value]


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 66, 119, 120, 252])
def test_many_digests_at_once_are_hashlibs(length: int) -> None:
    messages = np.random.default_rng(length).integers(0, 256, (37, length)).astype(np.uint8)
    expected = [hashlib.md5(row.tobytes(), usedforsecurity=False).digest() for row in messages]
    assert [row.tobytes() for row in md5_rows(messages)] == expected


def test_cells_of_up_to_5_vertices_are_those_of_the_plain_enumeration() -> None:
    """Every labelled cell in the benchmark's order, hashed one by one; the first of each hash is kept."""
    first: dict[str, Arch] = {}
    for n in range(2, 6):
        for edges in range(1 << n * (n - 1) // 2):
            matrix = [
                [int(x < y and edges >> (x + y * (y - 1) // 2) & 1) for y in range(n)] for x in range(n)
            ]
            if (
                not all(map(any, matrix[:-1]))
                or not all(map(any, list(zip(*matrix))[1:]))
                or sum(map(sum, matrix)) > 9
            ):
                continue
            for ops in product(OPS, repeat=n - 2):
                arch = SPACE.from_matrix(matrix, ["input", *ops, "output"])
                first.setdefault(SPACE.fingerprint(arch), arch)
    cells = enumerate_cells(5)
    assert cells.archs() == list(first.values())
    assert hash_texts(hash_cells(cells)) == list(first)


def test_the_whole_space_has_the_published_cells_and_hashes() -> None:
    cells = enumerate_cells()
    sizes, numbers = np.unique(cells.n_vertices, return_counts=True)
    assert dict(zip(map(str, sizes), numbers)) == GOLDEN["by_vertices"]
    edges, numbers = np.unique(n_edges(cells.edges), return_counts=True)
    assert dict(zip(map(str, edges), numbers)) == GOLDEN["by_edges"]
    hashes = sorted(hash_texts(hash_cells(cells)))
    assert len(set(hashes)) == len(cells) == SPACE.size
    text = "".join(f"{line}\n" for line in hashes)
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN["sha256_of_sorted_hashes"]


def test_many_hashes_at_once_are_those_of_single_cells() -> None:
    rng = np.random.default_rng(0)
    archs = [SPACE.draw(rng) for _ in range(200)] + enumerate_cells(4).archs()
    assert hash_texts(hash_cells(pack(archs))) == [SPACE.fingerprint(arch) for arch in archs]


def test_a_tie_in_half_a_hash_is_settled_by_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from archduel.spaces.nasbench101 import enumeration

    cells = enumerate_cells(5)[:500]
    expected = hash_cells(cells)
    order = enumeration._order
    monkeypatch.setattr(
        enumeration, "_order", lambda digests: (order(digests)[0][:, ::-1], np.ones(len(digests), bool))
    )
    assert (hash_cells(cells) == expected).all()


def test_matrices_and_the_decision_tree_agree() -> None:
    for n, matrices in GOLDEN["matrices"].items():
        assert len(kept_matrices(int(n))) == matrices
    found: dict[int, set[Arch]] = {}
    for arch in enumerate_space(SPACE):
        if arch.choices[0] > 3:  # 6 vertices and more
            break
        SPACE.validate(arch)
        found.setdefault(arch.choices[0] + 2, set()).add(arch)
    for n, archs in found.items():
        assert len(archs) == GOLDEN["matrices"][str(n)] * 3 ** (n - 2)
        assert {SPACE.cell(arch).edges for arch in archs} == set(kept_matrices(n).tolist())


def test_every_7_vertex_matrix_is_reachable_by_decisions() -> None:
    """Every valid matrix, answered bit by bit: each bit is offered, and only what is valid is offered at the end."""
    for edges in kept_matrices(7).tolist()[::7]:
        matrix = [[int(x < y and edges >> (x + y * (y - 1) // 2) & 1) for y in range(7)] for x in range(7)]
        arch = SPACE.from_matrix(matrix, ["input", *OPS, *OPS[:2], "output"])
        for at, choice in enumerate(arch.choices):
            decision = SPACE.decision(arch.choices[:at])
            assert decision is not None
            assert choice in decision.options
        assert SPACE.decision(arch.choices) is None


def test_representatives_of_all_encodings_are_the_enumerated_cells() -> None:
    archs = enumerate_space_up_to(5)
    cells = canonical(pack(archs))
    assert set(cells.archs()) == set(enumerate_cells(5).archs())
    assert cells.archs()[::50] == [SPACE.canonical(arch) for arch in archs[::50]]
    known = enumerate_cells(6)
    again = canonical(known)
    assert (again.edges == known.edges).all()
    assert (again.ops == known.ops).all()


def enumerate_space_up_to(n: int) -> list[Arch]:
    found = []
    for arch in enumerate_space(SPACE):
        if arch.choices[0] + 2 > n:
            break
        found.append(arch)
    return found
