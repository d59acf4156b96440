"""The public face: explicit, loaded when used, each name with a manual that says its arrays' shapes."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import skillneurons

PACKAGE = Path(skillneurons.__file__).parent
ARRAY = re.compile(r"\b(Tensor|ndarray|NDArray|Float|Int|Int32|Int64|UInt8|Bool|Shaped)\b")
SHAPE_IN_TYPE = re.compile(r"""\b(Float|Int\d*|UInt8|Bool|Shaped)\[[\w.]+, (f?["'])[^"']*\2\]""")
SHAPE_IN_WORDS = re.compile(r"\[[a-z_0-9+ -]+(, [a-z_0-9+ -]+)*\]|one value a|scalar")


def described(owner: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """A public thing and, of a class, its public methods and properties that are its own."""
    yield owner, thing
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if isinstance(member, (staticmethod, classmethod)):
                member = member.__func__
            if isinstance(member, property):
                member = member.fget
            if isinstance(member, cached_property):
                member = member.func
            if not name.startswith("_") and inspect.isfunction(member):
                yield f"{owner}.{name}", member


def documented(name: str, thing: Any) -> bool:
    """Whether someone wrote the docstring: not inherited, nor the signature that dataclasses put there."""
    text: str = (vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__) or ""
    generated = inspect.isclass(thing) and text.startswith(f"{thing.__name__}(")
    return bool(text.strip()) and not generated


def says_shapes(thing: Any) -> bool:
    """Whether each array that a function takes or returns has its shape, in its type or in the docstring."""
    types = [str(kind) for kind in getattr(thing, "__annotations__", {}).values()]
    bare = [kind for kind in types if ARRAY.search(SHAPE_IN_TYPE.sub("", kind))]
    return not bare or bool(SHAPE_IN_WORDS.search(thing.__doc__ or ""))


@pytest.mark.parametrize("name", skillneurons.__all__)
def test_public_names_have_a_manual(name: str) -> None:
    thing = getattr(skillneurons, name)
    if isinstance(thing, str):  # __version__
        return
    parts = list(described(name, thing))
    assert [part for part, value in parts if not documented(part, value)] == []
    assert [part for part, value in parts if inspect.isfunction(value) and not says_shapes(value)] == []


def test_the_checks_can_fail() -> None:
    def mean(activations: "Tensor") -> "Tensor":  # type: ignore[name-defined]
        """The mean."""

    def shaped(activations: 'Float[Tensor, "position neuron"]') -> None:  # type: ignore[name-defined]
        """Something."""

    def worded(activations: "Tensor") -> None:  # type: ignore[name-defined]
        """Of `activations` [position, neuron]."""

    class Base:
        """Words."""

    class Child(Base):
        def method(self) -> None:
            pass

    assert [says_shapes(function) for function in (mean, shaped, worded)] == [False, True, True]
    assert [documented(name, thing) for name, thing in described("Child", Child)] == [False, False]


def test_every_module_has_a_manual_page() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 10
    silent = [str(file) for file in files if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))]
    assert silent == []


def test_the_face_is_explicit_and_lazy() -> None:
    code = (
        "import sys, skillneurons\n"
        "assert set(skillneurons.__all__) <= set(dir(skillneurons))\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_no_part_of_the_face() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = skillneurons.nothing_of_the_kind
    assert len(set(skillneurons.__all__)) == len(skillneurons.__all__)
