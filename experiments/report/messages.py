# SPDX-License-Identifier: BSD-3-Clause
"""Writes the report's messages into its catalogues (`python -m` with this module's name).

A new message arrives without a translation, and one that nothing says any more is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import write_po

from midcall.experiments.measure import formatting, situations
from midcall.experiments.report.language import PAGES, catalogue, catalogue_path
from midcall.locations import EXPERIMENTS, TEMPLATES

KEYWORDS = {**DEFAULT_KEYWORDS, "counted": (1, 2)}
#: Jinja's options for the templates, the same as those of the report.
OPTIONS = {"trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true",
           "silent": "false"}  # fmt: skip


def sources() -> Iterator[tuple[str, Path]]:
    """Yield the files with messages, each with the method that reads it."""
    for module in (formatting, situations):
        yield "python", Path(str(module.__file__))
    for path in sorted((EXPERIMENTS / "report").rglob("*.py")):
        yield "python", path
    for path in sorted(TEMPLATES.glob("*.html")):
        yield "jinja2.ext:babel_extract", path


def extracted() -> Catalog:
    """Return every message of the code and the templates, in order."""
    found = Catalog()
    for method, path in sources():
        options = OPTIONS if method.startswith("jinja2") else {}
        for _, message, comments, context in extract_from_file(
            method, path, keywords=KEYWORDS, options=options, comment_tags=("translators:",),
            strip_comment_tags=True,
        ):  # fmt: skip
            name = path.resolve().relative_to(EXPERIMENTS).as_posix()
            found.add(message, None, [(name, 0)], auto_comments=comments, context=context)
    return found


def update(code: str, found: Catalog) -> Catalog:
    """Return a language's catalogue with exactly the messages found, and write it to its file."""
    path = catalogue_path(code)
    known = catalogue(code) if path.exists() else Catalog(locale=code)
    known.update(found, no_fuzzy_matching=True, update_creation_date=False)
    with path.open("wb") as file:
        write_po(file, known, width=100, ignore_obsolete=True, include_lineno=False)
    return known


def main() -> None:
    """Write the catalogue of every language; say what is without a translation."""
    found = extracted()
    for page in PAGES[1:]:
        known = update(page.code, found)
        bare = sum(1 for one in known if one.id and not all(_strings(one.string)))
        print(f"{catalogue_path(page.code)}: {len(known)} messages, {bare} without a translation")


def _strings(string: object) -> tuple[str, ...]:
    return tuple(string) if isinstance(string, (tuple, list)) else (str(string or ""),)


if __name__ == "__main__":
    main()
