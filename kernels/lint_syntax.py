"""Jitted functions as syntax trees, and the calls in them: what the rules of kernels/lint.py read."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """A jitted function and the file it is in."""

    file: str
    tree: ast.FunctionDef
    text: tuple[str, ...]
    """The file's lines."""

    @property
    def parameters(self) -> list[str]:
        """In order."""
        return [argument.arg for argument in self.tree.args.args]

    @property
    def constants(self) -> set[str]:
        """Parameters that are known when the kernel is compiled."""
        annotated = ((argument.arg, argument.annotation) for argument in self.tree.args.args)
        return {name for name, annotation in annotated if annotation is not None and ast.unparse(annotation) == "tl.constexpr"}


def kernels_in(sources: Mapping[str, str]) -> dict[str, Kernel]:
    """The jitted functions of the sources (file name -> text) by name.

    Raises:
        ValueError: two of one name, so that a call cannot be followed.
    """
    kernels: dict[str, Kernel] = {}
    for file, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and _is_jitted(node):
                if node.name in kernels:
                    raise ValueError(
                        f"expected jitted functions of different names, got {node.name} in {kernels[node.name].file} and {file}"
                    )
                kernels[node.name] = Kernel(file, node, tuple(text.splitlines()))
    return kernels


def _is_jitted(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).partition("(")[0] in ("triton.jit", "jit") for decorator in function.decorator_list)


def bundles_in(sources: Mapping[str, str]) -> dict[str, str]:
    """The named tuples of the sources, by which kernels take several arguments as one: name -> its source with comments."""
    return {
        node.name: ast.get_source_segment(text, node) or ""
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "NamedTuple" for base in node.bases)
    }


def bound_arguments(call: ast.Call, parameters: list[str]) -> dict[str, ast.expr]:
    """The arguments of a call by the callee's parameter names."""
    named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    return dict(zip(parameters, call.args, strict=False)) | named


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call below a node."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """The plain name that is called; empty for methods and functions of modules."""
    return call.func.id if isinstance(call.func, ast.Name) else ""


def tl_name(call: ast.Call) -> str:
    """`load` of a call of tl.load; empty for calls of anything else."""
    named = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "tl"
    return call.func.attr if named and isinstance(call.func, ast.Attribute) else ""
