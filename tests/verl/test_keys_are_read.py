"""Every key of the configuration changes something: some code reads it, beyond checking its value.

A read is ``x.key`` where ``x`` is a group of the configuration: an attribute of the group's name
(``config.critic.hold``), or a variable that was annotated with the group's class or assigned from such an attribute
(``critic = self.config.critic``), or ``self`` in a method of the group's class other than ``__post_init__``, which
checks; what that hands to ``...Rules(...)`` is read there. A key may also be read by another one
(``${trainer.run_id}`` in YAML).
"""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from verl.config import Config

ROOT = Path(__file__).parents[2]
SOURCES = [path for path in (ROOT / "verl").rglob("*.py") if path != ROOT / "verl" / "config.py"]
YAML = "\n".join(path.read_text() for path in (ROOT / "verl" / "trainer" / "config").rglob("*.yaml"))
PLACES = {
    "model": "actor_rollout_ref.model",
    "actor": "actor_rollout_ref.actor",
    "rollout": "actor_rollout_ref.rollout",
}


def groups(kind: type = Config, where: str = "") -> Iterator[tuple[str, type]]:
    """Each group of keys: its place in the configuration, and its class."""
    built = {field.name for field in dataclasses.fields(kind) if not field.init}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint) and name not in built:
            place = f"{where}.{name}" if where else PLACES.get(name, name)
            yield place, typing.cast(type, hint)
            yield from groups(typing.cast(type, hint), place)


GROUPS = dict(groups())
CLASS_OF = {place.rpartition(".")[2]: kind.__name__ for place, kind in GROUPS.items()}  # by the field's name
KEYS = [
    (f"{place}.{field.name}", kind.__name__, field.name)
    for place, kind in GROUPS.items()
    for field in dataclasses.fields(kind)
    if field.init and not dataclasses.is_dataclass(typing.get_type_hints(kind)[field.name])
]


class Reads(ast.NodeVisitor):
    """Collects (group's class, key) of all reads in a file."""

    def __init__(self, tree: ast.AST) -> None:
        self.found: set[tuple[str, str]] = set()
        self.known: dict[str, str] = {}  # variable, or attribute of self -> the class of the group it holds
        for _ in range(2):  # an assignment may be met before the parameter that it takes
            for node in ast.walk(tree):
                self._learn(node)
        self.visit(tree)

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            kind = ast.unparse(node.annotation).removesuffix(" | None")
            if kind in CLASS_OF.values():
                self.known[name] = kind
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value)
        elif isinstance(node, ast.NamedExpr):
            self._assign(node.target, node.value)

    def _assign(self, target: ast.AST, value: ast.AST) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, other in zip(target.elts, value.elts):
                self._assign(one, other)
        elif (kind := self.group(value)) is not None:
            self.known[ast.unparse(target)] = kind

    def group(self, node: ast.AST) -> str | None:
        """The class of the group that an expression is, if it is one."""
        if isinstance(node, ast.Attribute):
            return CLASS_OF.get(node.attr) or self.known.get(ast.unparse(node))
        return self.known.get(node.id) if isinstance(node, ast.Name) else None

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.known.pop("self", None)
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and node.name in CLASS_OF.values():
                handed = [method] if method.name != "__post_init__" else list(rules_calls(method))
                self.known["self"] = node.name
                for part in handed:
                    self.visit(part)
                del self.known["self"]
            self.visit(method)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load) and (kind := self.group(node.value)) is not None:
            self.found.add((kind, node.attr))
        self.generic_visit(node)


def rules_calls(method: ast.FunctionDef) -> Iterator[ast.Call]:
    """Calls that build the rules of the reward from keys."""
    for node in ast.walk(method):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Rules"):
            yield node


READ = {read for path in SOURCES for read in Reads(ast.parse(path.read_text())).found}


@pytest.mark.parametrize(("key", "kind", "name"), KEYS, ids=[key for key, _, _ in KEYS])
def test_every_key_has_a_reader(key: str, kind: str, name: str) -> None:
    """A key that nothing reads does nothing, whatever its value."""
    by_another = re.search(r"\$\{" + re.escape(key) + r"\}", YAML)
    assert (kind, name) in READ or by_another, f"{key}: nothing in verl/ reads {kind}.{name}"


def test_a_key_without_a_reader_is_found() -> None:
    """Reads of other objects' fields, and checks of the configuration itself, do not count."""
    tree = ast.parse(
        "def f(config, fsdp: FsdpConfig):\n"
        "    actor, policy = config.actor, config.policy\n"
        "    return policy.config.num_images_in_input, actor.grad_clip, config.critic.weights.value, fsdp.dtype\n"
    )
    found = Reads(tree).found
    assert {("ActorConfig", "grad_clip"), ("WeightsConfig", "value"), ("FsdpConfig", "dtype")} <= found
    assert not any(name == "num_images_in_input" for _, name in found)
