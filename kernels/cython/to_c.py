"""Writes formulas.h: the formulas of ``formulas/`` as C functions on the vectors of vector.h.

What C has of them is straight: assignments and a return. So they are translated statement by
statement, with the docstring above and under the same names; the functions of ``lane.py`` are
in vector.h, by hand. Numbers that Python can compute are computed here, and those that depend
on the dtype become constants of C. setup.py runs this when it builds, without an installed
package: nothing is imported but the formulas.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import math
import string
import sys
import textwrap
from pathlib import Path

TYPES = {"Bits": "VI", "Truth": "VI", "Number": "T"}  # by annotation


def load(name="_formulas"):
    """The tables of ``formulas/``, read as a package of that name."""
    folder = Path(__file__).parents[1] / "formulas"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    sys.modules[name] = importlib.util.module_from_spec(spec)
    tables = "ACTIVATIONS", "LOSSES", "OPTIMIZERS"
    return [getattr(importlib.import_module(f"{name}.{x.lower()}"), x) for x in tables]


def block(lines, indent=4):
    """Statements, none wider than the page."""
    start, more = " " * indent, " " * (indent + 8)
    wrap = textwrap.TextWrapper(100, start, more, break_long_words=False, break_on_hyphens=False)
    return "\n".join(row for line in lines for row in wrap.wrap(line))


@functools.cache
def syntax(module):
    """The functions of a module by their first lines."""
    nodes = ast.walk(ast.parse(inspect.getsource(sys.modules[module])))
    return {x.lineno: x for x in nodes if isinstance(x, ast.FunctionDef | ast.Lambda)}


class Formula:
    """One function of Python in C; ``kind`` is the type of what has no annotation.

    ``types`` has those of the names so far; ``outs`` are results that go through pointers, all
    but the first.
    """

    def __init__(self, header, f, kind):
        self.header, self.known, self.kind, self.lines = header, f.__globals__, kind, []
        tree, hints = syntax(f.__module__)[f.__code__.co_firstlineno], f.__annotations__
        self.types = {x.arg: TYPES.get(hints.get(x.arg), kind) for x in tree.args.args}
        self.types |= {x.arg: "T" for x in tree.args.kwonlyargs}
        *body, last = tree.body if isinstance(tree, ast.FunctionDef) else [ast.Return(tree.body)]
        result, *outs = getattr(last.value, "elts", [last.value])
        self.outs = [x.id for x in outs]
        names = dict.fromkeys([*self.types, *self.outs])
        for statement in body:
            match statement:
                case ast.AnnAssign(name, hint, value):
                    self.assign({name.id: TYPES[hint.id]}, value)
                case ast.Assign([ast.Tuple(targets)], value):
                    kinds = header.kinds[header.name(self.known[value.func.id])]
                    self.assign(dict(zip((x.id for x in targets), kinds, strict=True)), value)
                case ast.Assign([name], value):
                    self.assign({name.id: kind}, value)
        self.arguments = [f"{self.types[x]} {'*' * (x in self.outs)}{x}" for x in names]
        self.kinds = [TYPES.get(hints.get("return"), kind), *(self.types[x] for x in self.outs)]
        self.result = self.text(result)

    def assign(self, types, value):
        """Write a statement."""
        first, *others = types
        new = [x for x in others if x not in self.outs]
        pointers = ["", *(f"{'&' * (x in new)}{x}" for x in others)]
        text = self.text(value)
        text = text[:-1] + ", ".join(pointers) + text[-1]
        start = "*" if first in self.outs else f"const {types[first]} "
        self.lines += [*(f"{types[x]} {x};" for x in new), f"{start}{first} = {text};"]
        self.types |= types

    def text(self, node):
        """An expression in C."""
        return ast.unparse(self.visited(node))

    def apart(self, node):
        """The same in parentheses, if it is an operation: signs of bits bind otherwise in C."""
        is_operation = isinstance(node, ast.BinOp | ast.Compare)
        return ast.Name(f"({self.text(node)})") if is_operation else self.visited(node)

    def visited(self, node):
        """An expression of Python's syntax in which any text of C may be a name."""
        if not {x.id for x in ast.walk(node) if isinstance(x, ast.Name)} & self.types.keys():
            return ast.Name(self.number(node))
        match node:
            case ast.Name(name):
                return ast.Name("*" * (name in self.outs) + name)
            case ast.UnaryOp(sign, x):
                return ast.UnaryOp(sign, self.visited(x))
            case ast.BinOp(left, ast.Pow(), right):
                return ast.Name(f"pow({self.text(left)}, {self.text(right)})")
            case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as sign, right):
                return ast.BinOp(self.visited(left), sign, self.visited(right))
            case ast.BinOp(left, sign, right):
                return ast.BinOp(self.apart(left), sign, self.apart(right))
            case ast.Compare(left, signs, [right]):
                return ast.Compare(self.apart(left), signs, [self.apart(right)])
            case ast.Call(ast.Name("like"), [_, x]):
                return ast.Name(f"splat({self.text(x)})")
            case ast.Call(f, arguments):  # a formula, or of math
                name = getattr(f, "attr", None) or self.header.name(self.known[f.id], self.kind)
                return ast.Name(f"{name}({', '.join(map(self.text, arguments))})")
        raise NotImplementedError(ast.unparse(node))

    def number(self, node):
        """What has no argument in it."""
        if isinstance(node, ast.Name) and isinstance(self.known[node.id], dict):
            self.header.constants[node.id] = self.known[node.id]
            return node.id
        x = eval(compile(ast.Expression(node), "formula", "eval"), self.known)
        if not math.isfinite(x):
            return f"(T){x}".upper().replace("INF", "INFINITY")
        return str(int(x)) if x == int(x) else "(T)" * (self.kind == "V") + repr(x)


class Header:
    """Constants and functions in the order in which they are needed."""

    def __init__(self):
        self.constants, self.functions, self.kinds = {}, {}, {}

    def name(self, f, kind="V", name=None):
        """Of a function in C, which is written now unless it is there already."""
        name = name or "v" * hasattr(math, f.__name__) + f.__name__  # C has an exp of its own
        if f.__module__.endswith(".lane"):  # by hand in vector.h
            self.kinds[name] = [TYPES.get(f.__annotations__.get("return"), "V")]
        elif name not in self.kinds:
            formula = Formula(self, f, kind)
            self.kinds[name] = formula.kinds
            text = inspect.cleandoc(f.__doc__ or "").replace("\n", "\n * ")
            head = block([f"INLINE {formula.kinds[0]} {name}({', '.join(formula.arguments)})"], 0)
            body = block([*formula.lines, f"return {formula.result};"])
            self.functions[name] = f"/* {text} */\n" * bool(text) + f"{head}\n{{\n{body}\n}}"
        return name

    def constants_of(self, bits):
        """Those that depend on the dtype."""
        suffix = "f" * (bits == 32)
        for name, values in self.constants.items():
            if isinstance(values[bits], tuple):
                numbers = ", ".join(f"{x!r}{suffix}" for x in values[bits])
                yield block([f"static const T {name}[] = {{{numbers}}};"], 0)
            else:
                yield f"#define {name} {values[bits]!r}" + suffix * isinstance(values[bits], float)

    def case(self, name, rule):
        """What becomes of a rule's numbers at a step."""
        lines = [f"const double {x} = numbers[{k}];" for k, x in enumerate(rule.numbers)]
        for x in ("clip", "decay", "gain", "factor", *rule.scalars):
            f = rule.at_step.get(x)
            lines.append(f"s.{x} = {Formula(self, f, 'double').result if f else x};")
        return f"case OPTIMIZER_{name}: {{\n{block([*lines, 'break;'], 8)}\n    }}"

    def update(self, name, rule):
        """A row of the table: the call of an update."""
        given = ["w", "g", *(f"&m[{k}]" for k, _ in enumerate(rule.moments))]
        given += [f"s.{x}" for x in rule.scalars]
        return f"ROW({name}, {len(rule.moments)}, {self.name(rule.update)}({', '.join(given)}))"


def header():
    """The text of formulas.h."""
    h, (activations, losses, rules), row = Header(), load(), " \\\n    "
    parts = {
        "activations": row.join(
            f"FROM_OUTPUT({name}, {h.name(f)}, {h.name(slope, name=f'slope_{name}')})"
            if slope
            else f"FROM_INPUT({name}, {h.name(f)})"
            for name, (f, slope) in activations.items()
        ),
        "losses": row.join(
            f"ELEMENTS({name}, {h.name(f)})" if f else f"ROWS({name})" for name, f in losses.items()
        ),
        "optimizers": row.join(h.update(*x) for x in rules.items()),
        "cases": "\n    ".join(h.case(*x) for x in rules.items()),
        "scalars": ", ".join(dict.fromkeys(y for x in rules.values() for y in x.scalars)),
        "functions": "\n\n".join(h.functions.values()),
        "constants_32": "\n".join(h.constants_of(32)),
        "constants_64": "\n".join(h.constants_of(64)),
    }
    template = Path(__file__).parent / "c/formulas.h.in"
    return string.Template(template.read_text(encoding="utf-8")).substitute(parts)


def write(path):
    """Write formulas.h, unless it is there already."""
    text = header()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
