# SPDX-License-Identifier: BSD-3-Clause
"""The languages of the report: English in the code and templates, the others from catalogues.

A catalogue is locales/<code>/LC_MESSAGES/report.po, read when a report is rendered. `messages`
writes into the catalogues what the code and templates say.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import NamedTuple

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

from midcall.experiments.measure.formatting import ENGLISH, Language
from midcall.locations import EXPERIMENTS

LOCALES = EXPERIMENTS / "locales"


class Page(NamedTuple):
    """The report in one language: the language's own name, and the page's file in a run."""

    code: str
    name: str
    file: str
    rtl: bool

    @property
    def direction(self) -> str:
        """Return the value of the page's attribute `dir`."""
        return "rtl" if self.rtl else "ltr"


PAGES = (
    Page("en", "English", "report.html", False),
    Page("fr", "Français", "report.fr.html", False),
    Page("ar", "العربية", "report.ar.html", True),
)


def catalogue_path(code: str) -> Path:
    """Return the path of a language's messages."""
    return LOCALES / code / "LC_MESSAGES" / "report.po"


def catalogue(code: str) -> Catalog:
    """Return a language's messages as they stand in its file."""
    with catalogue_path(code).open("rb") as file:
        return read_po(file, locale=code)


@functools.cache
def language(code: str) -> Language:
    """Return a language with its messages, without those that are marked fuzzy."""
    page = next(page for page in PAGES if page.code == code)
    if code == ENGLISH.code:
        return ENGLISH
    compiled = io.BytesIO()
    write_mo(compiled, catalogue(code))
    compiled.seek(0)
    return Language(code, page.rtl, Translations(compiled))
