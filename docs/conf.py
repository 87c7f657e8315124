"""Sphinx: `make docs` writes the site to build/docs, and fails on a warning."""

project = "yolox-deploy"
author = "the yolox-deploy authors"
copyright = "the yolox-deploy authors, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "yolox-deploy"
html_static_path = ["static"]
html_css_files = ["style.css"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings are plain sentences with `code` in single backticks, as people read them in an editor.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
# Imported by what is documented, and of no use to its pages.
autodoc_mock_imports = ["atheris"]
nitpicky = False
