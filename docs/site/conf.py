"""Sphinx builds the site from the pages as they stand in the repository: `make docs`. Nothing is fetched."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref, toctree
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]

project = "cmk-operator"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "*.md", "operator/README.md", "sandbox/azure/README.md", "charts/cmk-operator/README.md"]
exclude_patterns = [".*", "README.md", "dist", "docs/site"]
nitpicky = True
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
"""A page may start with a table's heading; blocks of JSON and of consoles have an ellipsis where something is left out."""
myst_heading_anchors = 4
"""Headings get GitHub's anchors, so a link to one works in both."""
html_theme = "furo"
html_extra_path = ["root"]
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


class TheIndexIsTheNavigation(SphinxTransform):
    """The lists of docs/index.md become the sidebar, so that the same page serves readers of the repository and of the site."""

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        """Called by Sphinx for each page."""
        del kwargs
        if self.env.docname.startswith("docs/decisions/0"):
            self.env.metadata[self.env.docname]["orphan"] = True  # their own index lists them
        if self.env.docname != root_doc:
            return
        for section in self.document.findall(nodes.section):
            items = [next(iter(item.findall(pending_xref)), None) for item in section.findall(nodes.list_item)]
            entries = [(link.astext(), link["reftarget"]) for link in items if link is not None]
            if entries and not any(isinstance(child, nodes.section) for child in section):
                section.append(self._tree(section[0].astext(), entries))

    def _tree(self, caption: str, entries: list[tuple[str, str]]) -> nodes.Node:
        tree = toctree("", entries=entries, includefiles=[page for _, page in entries], caption=caption, rawcaption=caption)
        tree.update_basic_atts({})
        shown = {"hidden": True, "glob": False, "numbered": 0, "titlesonly": True, "maxdepth": 1, "includehidden": False}
        for name, value in {**shown, "parent": root_doc}.items():
            tree[name] = value
        return nodes.compound("", tree, classes=["toctree-wrapper"])


class FoldersHaveNoPage(SphinxPostTransform):
    """Of a link to a folder of the repository, such as an example's, the words stay; any other dead link fails the build."""

    default_priority = 8  # before MyST resolves links

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx for each page."""
        del kwargs
        page = Path(self.env.doc2path(self.env.docname))
        for link in list(self.document.findall(pending_xref)):
            if link.get("reftype") == "myst" and (page.parent / str(link["reftarget"])).is_dir():
                link.replace_self(nodes.inline("", "", *(child.deepcopy() for child in link.children)))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_transform(TheIndexIsTheNavigation)
    app.add_post_transform(FoldersHaveNoPage)
