"""Sphinx: `make docs` writes the site to build/docs, and fails on a warning."""

import re

from sphinx.application import Sphinx

project = "yolox-deploy"
author = "the yolox-deploy authors"
copyright = "the yolox-deploy authors, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "yolox-deploy"
html_static_path = ["static"]
html_css_files = ["style.css"]

myst_heading_anchors = 3

# Docstrings are plain sentences with `code` in single backticks, as people read them in an editor.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True


def link_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Markdown outside of docs/, such as the dated notes, is no page of the site: a link to it gives the file."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_files)
