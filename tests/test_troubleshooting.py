"""docs/troubleshooting.md has every message that the packages give a user, and no other."""

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
PACKAGES = ("pointmap", "recon", "viz")
ERRORS = {"InputError", "NotPlaced", "UnusablePicture"}
LISTENERS = {("logger", "warning"), ("reasons", "append")}
HOLE = "…"


def templates(node: ast.expr) -> list[str]:
    """Return the texts that an expression can become, with ``HOLE`` for what only a run knows."""
    if isinstance(node, ast.Constant):
        return [node.value if isinstance(node.value, str) else HOLE]
    if isinstance(node, ast.IfExp):
        return templates(node.body) + templates(node.orelse)
    if isinstance(node, ast.JoinedStr):
        parts = [templates(part) for part in node.values]
        return ["".join(texts) for texts in product(*parts)]
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.IfExp):
        return templates(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a, b in product(templates(node.left), templates(node.right))]
    return [HOLE]


def is_message(call: ast.Call) -> bool:
    """Return whether the first argument of ``call`` is read by a user.

    That is an error, a warning, or a reason why a photo was not placed.
    """
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        if (function.value.id, function.attr) in LISTENERS:
            return True
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    return name in ERRORS


def one_form(text: str) -> str:
    """Return a message with its holes and blanks written in one way."""
    text = re.sub(r"%(\.\d+)?[sdfgr]", HOLE, text).replace("%%", "%")
    return " ".join(text.split())


def sources(argument: ast.expr, module: ast.Module) -> Iterator[ast.expr]:
    """Yield where a message comes from: ``argument``, or what the module's function returns."""
    called = argument.func if isinstance(argument, ast.Call) else None
    for node in ast.walk(module) if isinstance(called, ast.Name) else ():
        if isinstance(node, ast.FunctionDef) and node.name == called.id:
            yield from (n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value)
    yield argument


def messages_of(source: str) -> Iterator[str]:
    """Yield the messages in a module's source; those without a word of their own are left out."""
    module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args and is_message(node):
            for origin in sources(node.args[0], module):
                for text in map(one_form, templates(origin)):
                    if re.search("[a-z]{2}", text):
                        yield text


def messages_in_the_code() -> set[str]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {text for path in files for text in messages_of(path.read_text(encoding="utf-8"))}


def messages_on_the_page() -> set[str]:
    """Return the first cells of the page's tables, which hold a message in back-ticks."""
    rows = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {row.replace(r"\|", "|") for row in rows}


def listed(messages: set[str]) -> str:
    return "".join(f"\n| `{text}` | cause | remedy |" for text in sorted(messages))


def test_every_message_has_an_entry():
    missing = messages_in_the_code() - messages_on_the_page()
    assert not missing, f"add to {PAGE.relative_to(ROOT)}, with cause and remedy:{listed(missing)}"


def test_every_entry_is_a_message():
    dead = messages_on_the_page() - messages_in_the_code()
    assert not dead, f"remove from {PAGE.relative_to(ROOT)}, or mend the words:{listed(dead)}"


def test_messages_are_found_however_they_are_put_together():
    source = """
raise InputError(f"{path} is {'old' if old else 'new'}: " "mend it")
raise errors.InputError("not " + name if bad else "100 % wrong")
logger.warning("%s of %d fit, %.1f %% off", a, b, c)
logger.info("not for here")
raise InputError(f"{path}: {error}")
reasons.append("left alone")
raise UnusablePicture(why(error)) from error
def why(error):
    return "empty file" if error else f"damaged ({error})"
"""
    assert set(messages_of(source)) == {
        "… is old: mend it",
        "… is new: mend it",
        "not …",
        "100 % wrong",
        "… of … fit, … % off",
        "left alone",
        "empty file",
        "damaged (…)",
    }
