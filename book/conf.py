"""Sphinx configuration of the book. Nothing is executed here: chapters arrive executed, or as code alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "RLHF in many languages, reproduced"
author = "the mlpo authors"
language = "en"
extensions = ["myst_nb", "sphinxcontrib.bibtex", "mlpo_book"]
exclude_patterns = ["_ext", "_generated", "_static", "_templates", "README.md", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
smartquotes = False  # quotes and dashes of data stay as they are

# MyST and notebooks: papermill executes, Sphinx renders.
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
nb_output_stderr = "remove"
nb_ipywidgets_js = {}  # the default loads scripts from a content network

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# MathJax is vendored: pages work without a network, also from file://.
mathjax_path = "vendor/mathjax/tex-mml-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["mlpo.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"**": ["navbar-logo.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_theme_options = {
    "article_header_end": ["book-header-buttons.html"],
    "extra_footer": "<p>Code: Apache-2.0. Prose and data: CC BY 4.0. Models keep their own terms.</p>",
    "footer_content_items": "extra-footer.html",
    "home_page_in_toc": True,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
