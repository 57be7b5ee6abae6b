"""Graphs cut into chains of layers, and the chains of many networks ordered in groups that are computed together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from archduel.nets.fusing.graph import Graph, Node, Shape

__all__ = ["Chain", "Group", "chains", "schedule", "simplified"]

SHARED = ("avg_pool", "max_pool")
"""Layers without weights that are computed once when one network computes them twice from the same value."""


@dataclass(frozen=True)
class Chain:
    """Layers that follow one another, each read by the next only.

    Attributes:
        layers: the nodes; the first may have several inputs.
        inputs: numbers of the chains whose outputs the first layer reads; -1 = the image.
        before: shapes of those inputs.
    """

    layers: tuple[Node, ...]
    inputs: tuple[int, ...]
    before: tuple[Shape, ...]

    @property
    def signature(self) -> Hashable:
        """What two chains have in common that can be computed together."""
        image = tuple(source < 0 for source in self.inputs)
        return (self.before, image, tuple((node.op, node.attrs, node.shape) for node in self.layers))

    @property
    def shape(self) -> Shape:
        """Of the output."""
        return self.layers[-1].shape


@dataclass(frozen=True)
class Group:
    """Chains of one signature that are computed together.

    Attributes:
        members: (network, number of its chain).
        chains: the chains themselves.
    """

    members: tuple[tuple[int, int], ...]
    chains: tuple[Chain, ...]


def simplified(graph: Graph) -> Graph:
    """Returns ``graph`` with sums of sums as one, equal pools computed once, and nothing that the outputs do not depend on."""
    readers = Counter(source for node in graph.nodes for source in node.inputs) + Counter(graph.outputs)
    nodes: list[Node] = []
    place: dict[int, int] = {}
    seen: dict[Hashable, int] = {}
    terms: dict[int, tuple[int, ...]] = {}  # a sum that only another sum reads -> its terms
    for number, node in enumerate(graph.nodes):
        inputs: tuple[int, ...] = ()
        for source in node.inputs:
            inputs += terms[source] if node.op == "sum" and source in terms else (place[source],)
        key = (node.op, node.attrs, inputs)
        if node.op in SHARED and key in seen:
            place[number] = seen[key]
            continue
        nodes.append(replace(node, inputs=inputs))
        place[number] = seen[key] = len(nodes) - 1
        if node.op == "sum" and readers[number] == 1:
            terms[number] = inputs
    return _alive(nodes, tuple(place[output] for output in graph.outputs))


def _alive(nodes: Sequence[Node], outputs: tuple[int, ...]) -> Graph:
    """Returns the nodes that ``outputs`` depend on, numbered anew, the image always first."""
    needed = {0, *outputs}
    for number in reversed(range(len(nodes))):
        if number in needed:
            needed |= set(nodes[number].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    kept = [replace(nodes[old], inputs=tuple(place[i] for i in nodes[old].inputs)) for old in sorted(needed)]
    return Graph(tuple(kept), tuple(place[output] for output in outputs))


def chains(graph: Graph) -> tuple[list[Chain], tuple[int, ...]]:
    """Returns the chains of a simplified graph in an order of computation, and those with the outputs."""
    readers = Counter(source for node in graph.nodes for source in node.inputs) + Counter(graph.outputs)
    runs: list[list[int]] = []
    of: dict[int, int] = {0: -1}
    for number, node in enumerate(graph.nodes[1:], 1):
        source = node.inputs[0] if len(node.inputs) == 1 else 0
        if (
            source
            and readers[source] == 1
            and source not in graph.outputs
            and _follows(graph.nodes[source], node)
        ):
            runs[of[source]].append(number)
            of[number] = of[source]
        else:
            runs.append([number])
            of[number] = len(runs) - 1
    found = []
    for run in runs:
        sources = graph.nodes[run[0]].inputs
        before = tuple(graph.nodes[source].shape for source in sources)
        found.append(
            Chain(tuple(graph.nodes[n] for n in run), tuple(of[source] for source in sources), before)
        )
    return found, tuple(of[output] for output in graph.outputs)


def _follows(before: Node, node: Node) -> bool:
    """Returns whether two layers belong to one operation: one's name is the other's or a beginning of it."""
    first, second = f"{before.unit}.", f"{node.unit}."
    return bool(before.unit and node.unit) and (first.startswith(second) or second.startswith(first))


def schedule(networks: Sequence[Sequence[Chain]]) -> list[Group]:
    """Returns groups in an order of computation that puts as many equal chains together as it easily can.

    Among the chains that could be computed next, the signature goes first of which the largest share of all that are
    still to come in this stage of the networks is ready; so conv edges wait for each other where pools or skips precede some.
    """
    left: dict[tuple[int, int], int] = {}
    readers: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    coming: Counter[tuple[int, Hashable]] = Counter()
    ready: dict[tuple[int, Hashable], list[tuple[int, int]]] = defaultdict(list)
    keys: dict[tuple[int, int], tuple[int, Hashable]] = {}
    for k, network in enumerate(networks):
        for c, chain in enumerate(network):
            sources = [source for source in chain.inputs if source >= 0]
            keys[k, c] = (chain.layers[0].stage, chain.signature)
            coming[keys[k, c]] += 1
            left[k, c] = len(sources)
            for source in sources:
                readers[k, source].append((k, c))
            if not sources:
                ready[keys[k, c]].append((k, c))
    groups = []
    while ready:
        key = min(ready, key=lambda key: (key[0], -len(ready[key]) / coming[key], repr(key[1])))
        members = ready.pop(key)
        coming[key] -= len(members)
        groups.append(Group(tuple(members), tuple(networks[k][c] for k, c in members)))
        for member in members:
            for reader in readers[member]:
                left[reader] -= 1
                if not left[reader]:
                    ready[keys[reader]].append(reader)
    return groups
