"""Writes mutants of one file, with cosmic-ray's operators; runs in a virtual environment of its own, without ours.

python make.py FILE COUNT SEED      one JSON map a line: {"operator", "line", "code"}
"""

import json
import random
import sys

from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from parso import parse

# Of the same kind many times over, or of what has no meaning to change: a number in a docstring's place, a decorator.
_LEFT_OUT = ("VariableReplacer", "VariableInserter", "RemoveDecorator")


def mutants_of(code: str, count: int, seed: int) -> list[dict[str, object]]:
    """At most `count` mutants, drawn by `seed`; one a line of the code, so that one expression is not the sample."""
    nodes = list(ast_nodes(parse(code)))
    found = []
    for name in sorted(operator_names()):
        if name.endswith(_LEFT_OUT):
            continue
        operator = get_operator(name)()
        positions = [begin for node in nodes for begin, _ in operator.mutation_positions(node)]
        found += [(name, at, line) for at, (line, _) in enumerate(positions)]
    random.Random(seed).shuffle(found)
    by_line = {line: (name, at) for name, at, line in found}
    drawn = [(name, at, line) for line, (name, at) in by_line.items()]
    random.Random(seed).shuffle(drawn)
    mutants: list[dict[str, object]] = []
    for name, at, line in drawn[:count]:
        mutated = mutate_code(code, get_operator(name)(), at)
        if mutated and mutated != code:
            mutants.append({"operator": name.partition("/")[2], "line": line, "code": mutated})
    return mutants


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as _file:
        for _mutant in mutants_of(_file.read(), int(sys.argv[2]), int(sys.argv[3])):
            print(json.dumps(_mutant))
