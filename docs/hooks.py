"""What mkdocs does beside its configuration: pages from the repository, the API reference."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pointmap", "recon", "viz")
FROM_REPOSITORY = {
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/HISTORY.md": "benchmarks-history.md",
    "pointmap/weights/README.md": "bundled-network.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files that are read in the repository as well: their pages in the site."""

REPOSITORY_FILE = {page: file for file, page in FROM_REPOSITORY.items()}
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the API reference where ``reference/`` stands in the navigation."""
    assert config.nav is not None
    for entry in config.nav:
        for title, target in entry.items():
            if target == "reference/":
                entry[title] = ["reference/index.md", *map(reference_page, folders())]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that have no file in docs/."""
    for file, page in FROM_REPOSITORY.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for folder in folders():
        page = reference_page(folder)
        files.append(File.generated(config, page, content=reference_text(folder)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links between files of the repository to their pages; others become code."""
    place = page.file.src_uri
    folder = posixpath.dirname(REPOSITORY_FILE.get(place, f"docs/{place}"))

    def of_site(match: re.Match[str]) -> str:
        text, target, anchor = match["text"], match["target"], match["anchor"] or ""
        if ":" in target:
            return match[0]
        file = posixpath.normpath(posixpath.join(folder, target))
        goal = FROM_REPOSITORY.get(file, file.removeprefix("docs/"))
        if goal == file:  # neither in docs/ nor a page
            return f"{text[1:-1]} (`{file}`)"
        return f"{text}({posixpath.relpath(goal, posixpath.dirname(place) or '.')}{anchor})"

    return LINK.sub(of_site, markdown)


def folders() -> list[Path]:
    """Return the folders of the packages, those first that hold the others."""
    found = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")}
    return sorted(folder.relative_to(ROOT) for folder in found)


def reference_page(folder: Path) -> str:
    """Return the page of one folder's modules."""
    return f"reference/{'.'.join(folder.parts)}.md"


def reference_text(folder: Path) -> str:
    """Return the page of a package: what its own docstring says, then its modules."""
    package = ".".join(folder.parts)
    modules = sorted(path.stem for path in (ROOT / folder).glob("*.py"))
    alone = "{members: false, show_root_heading: false, show_root_toc_entry: false}"
    lines = [f"# `{package}`", f"::: {package}", f"    options: {alone}"]
    for name in modules:
        if not name.startswith("_"):
            lines += ["", f"::: {package}.{name}", "    options: {heading_level: 2}"]
    return "\n".join(lines) + "\n"
