"""Follows values of the model's type (which may be bfloat16) through jitted functions, to find arithmetic on them.

A pointer parameter of a kernel that no other one calls is of the model's type unless the comment behind it names another:
    lse_ptr: tl.tensor,  # (B, H, N) float32, contiguous
So is the field `ptr` of a parameter that is a named tuple, unless the comment or the source of its class names another type.
What is loaded from such a pointer is of the model's type until `.to(tl.float32)`; tl.dot sums in float32.
"""

import ast
import enum
import re
from collections.abc import Iterator, Mapping
from typing import Final

from handsight.kernels.lint_syntax import Kernel, bound_arguments, called, calls, tl_name

_OTHER_TYPE: Final = re.compile(r"\b(u?int\d+|float32|bool)\b")
_KEEPS_TYPE: Final = ("trans", "permute", "reshape", "view", "broadcast_to", "expand_dims", "where", "multiple_of", "max_contiguous")
_NO_ARITHMETIC: Final = ("dot", "store", "static_assert", "static_print")


class Kind(enum.IntEnum):
    """What an expression may be, the worse the higher."""

    OTHER = 0
    POINTER = 1  # to values of the model's type
    HALF = 2  # a value of the model's type


def half_arithmetic(kernels: Mapping[str, Kernel], bundles: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """(function, line, expression) of every arithmetic on a value that may be bfloat16."""
    flow = _Flow(kernels, bundles)
    while flow.advance():  # kinds only get worse, so this ends
        pass
    return sorted(flow.found)


class _Flow:
    """Kinds of parameters and of results, made worse call by call until nothing changes."""

    def __init__(self, kernels: Mapping[str, Kernel], bundles: Mapping[str, str]) -> None:
        self.kernels, self.bundles = kernels, bundles
        self.found: set[tuple[str, int, str]] = set()
        self.results: dict[str, list[Kind]] = {name: [] for name in kernels}
        inner = {called(call) for kernel in kernels.values() for call in calls(kernel.tree)}
        self.parameters = {name: {} if name in inner else dict(_pointers(kernel, bundles)) for name, kernel in kernels.items()}

    def advance(self) -> bool:
        """One pass over every function; whether anything became worse."""
        before = repr((self.parameters, self.results))
        for name, kernel in self.kernels.items():
            _Function(self, name).run(kernel.tree.body)
        return repr((self.parameters, self.results)) != before

    def call(self, name: str, arguments: Mapping[str, Kind]) -> list[Kind]:
        """Enters a call's arguments; the kinds of what it returns, as far as they are known."""
        known = self.parameters[name]
        for key, kind in arguments.items():
            known[key] = max(kind, known.get(key, Kind.OTHER))
        return self.results[name]


def _pointers(kernel: Kernel, bundles: Mapping[str, str]) -> Iterator[tuple[str, Kind]]:
    """The parameters through which values of the model's type come in."""
    for argument in kernel.tree.args.args:
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        comment = kernel.text[argument.lineno - 1].partition("#")[2]
        is_pointer = argument.arg.endswith("_ptr") or annotation in bundles
        if is_pointer and not _OTHER_TYPE.search(comment + bundles.get(annotation, "")):
            yield argument.arg, Kind.POINTER


class _Function:
    """One pass over one function's statements."""

    def __init__(self, flow: _Flow, name: str) -> None:
        self.flow, self.name = flow, name
        self.kinds: dict[str, Kind] = dict(flow.parameters[name])

    def run(self, body: list[ast.stmt]) -> None:
        """Statements in order; loops twice, because a value may be carried around."""
        for statement in body:
            match statement:
                case ast.Assign(targets=[target], value=value):
                    self._assign(target, self._results(value))
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assign(target, self._results(value))
                case ast.AugAssign(target=target, op=operator, value=value):
                    self._assign(target, [self._results(ast.copy_location(ast.BinOp(_as_value(target), operator, value), statement))[0]])
                case ast.For(body=inner) | ast.While(body=inner):
                    self.run(inner)
                    self.run(inner)
                case ast.If(test=test, body=inner, orelse=other):
                    self._results(test)
                    self.run(inner)
                    self.run(other)
                case ast.Return(value=ast.expr() as value):
                    self._return(self._results(value))
                case ast.Expr(value=value):
                    self._results(value)

    def _assign(self, target: ast.expr, kinds: list[Kind]) -> None:
        targets = target.elts if isinstance(target, ast.Tuple) else [target]
        if len(kinds) != len(targets):
            kinds = [max(kinds, default=Kind.OTHER)] * len(targets)
        for name, kind in zip(targets, kinds, strict=True):
            if isinstance(name, ast.Name):
                self.kinds[name.id] = kind

    def _return(self, kinds: list[Kind]) -> None:
        known = self.flow.results[self.name]
        known += [Kind.OTHER] * (len(kinds) - len(known))
        for index, kind in enumerate(kinds):
            known[index] = max(kind, known[index])

    def _results(self, node: ast.expr) -> list[Kind]:
        """The kinds of an expression: several for a tuple or a call that returns one."""
        if isinstance(node, ast.Tuple):
            return [self._kind(element) for element in node.elts]
        if isinstance(node, ast.Call) and called(node) in self.flow.kernels:
            passed = bound_arguments(node, self.flow.kernels[called(node)].parameters)
            return self.flow.call(called(node), {key: self._kind(value) for key, value in passed.items()}) or [Kind.OTHER]
        return [self._kind(node)]

    def _kind(self, node: ast.expr) -> Kind:
        match node:
            case ast.Name(id=name):
                return self.kinds.get(name, Kind.OTHER)
            case ast.Subscript(value=value) | ast.Attribute(value=value, attr="ptr"):
                return self._kind(value)
            case ast.Call():
                return self._kind_of_call(node)
            case ast.BinOp(left=left, right=right):
                return self._arithmetic(node, [self._kind(left), self._kind(right)])
            case ast.UnaryOp(operand=operand):
                return self._arithmetic(node, [self._kind(operand)])
            case ast.Compare(left=left, comparators=others):
                self._arithmetic(node, [self._kind(part) for part in (left, *others)])
                return Kind.OTHER
            case ast.IfExp(body=one, orelse=other):
                return max(self._kind(one), self._kind(other))
            case _:
                return Kind.OTHER

    def _arithmetic(self, node: ast.expr, kinds: list[Kind]) -> Kind:
        if Kind.HALF in kinds:
            self.flow.found.add((self.name, node.lineno, ast.unparse(node)))
        return max(kinds)

    def _kind_of_call(self, call: ast.Call) -> Kind:
        name = tl_name(call)
        if called(call) in self.flow.kernels:
            return max(self._results(call))
        if isinstance(call.func, ast.Attribute) and not name:  # a method: x.to(...), x.trans()
            owner = self._kind(call.func.value)
            return _converted(owner, call.args[0]) if call.func.attr == "to" else owner
        kinds = [self._kind(argument) for argument in (*call.args, *(keyword.value for keyword in call.keywords))]
        if called(call) in self.flow.bundles:
            return max(kinds, default=Kind.OTHER)
        if name == "load":
            return Kind.HALF if kinds[0] == Kind.POINTER else Kind.OTHER
        if name == "cast":
            return _converted(kinds[0], call.args[1])
        if name in _KEEPS_TYPE:
            return max(kinds)
        if name and name not in _NO_ARITHMETIC:
            self._arithmetic(call, kinds or [Kind.OTHER])
        return Kind.OTHER


def _converted(kind: Kind, to: ast.expr) -> Kind:
    """The kind after a conversion: `tl.float32` and integers are safe, `v.dtype` and pointers' element types are the model's."""
    text = ast.unparse(to)
    if text.startswith("tl.") and text not in ("tl.bfloat16", "tl.float16"):
        return Kind.OTHER
    return Kind.POINTER if kind == Kind.POINTER else Kind.HALF


def _as_value(target: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(target), mode="eval").body
