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
html_copy_source = False
html_show_sourcelink = False
highlight_language = "bash"

myst_heading_anchors = 3

# Docstrings are plain sentences with `code` in single backticks, as people read them in an editor.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Floats", "Image", "StateDict")}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90


def link_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Markdown outside of docs/, such as the dated notes, is no page of the site: a link to it gives the file."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0])


def shorten_types(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """The names that the code gives to types, where autodoc writes its own for them; of arrays, what they hold."""

    def short(text: str | None) -> str | None:
        text = text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
        return text and re.sub(r"ndarray\[tuple\[Any, \.\.\.\], dtype\[(\w+)\]\]", r"ndarray[\1]", text)

    return short(signature), short(result)


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_files)
    app.connect("autodoc-process-signature", shorten_types)
