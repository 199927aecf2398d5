"""A person's own modules: found where the program was started, keyed by their source, refused by a sentence."""

import sys

import pytest

from storage.errors import InputError
from tasks import own_code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_source_of_what_lies_beside_counts_and_nothing_else(folder):
    (folder / "main_rule.py").write_text("import json\nimport numpy\nfrom helper_rule import RATE\n")
    (folder / "helper_rule.py").write_text("RATE = 1\n")
    (folder / "unused_rule.py").write_text("X = 1\n")
    first = own_code.source("main_rule")
    (folder / "unused_rule.py").write_text("X = 2\n")
    assert own_code.source("main_rule") == first
    (folder / "helper_rule.py").write_text("RATE = 2\n")
    assert own_code.source("main_rule") != first


def test_what_is_edited_is_imported_anew_with_all_it_uses(folder):
    (folder / "live_rule.py").write_text("from live_helper import RATE\n")
    (folder / "live_helper.py").write_text("RATE = 1\n")
    assert own_code.load("live_rule").RATE == 1
    (folder / "live_helper.py").write_text("RATE = 22\n")
    assert own_code.load("live_rule").RATE == 22


def test_packages_may_import_by_name_and_relatively(folder):
    package = folder / "pack_rule"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rule.py").write_text("from .parts import RATE\nfrom pack_rule import more\n")
    (package / "parts.py").write_text("RATE = 1\n")
    (package / "more.py").write_text("X = 1\n")
    first = own_code.source("pack_rule.rule")
    (package / "parts.py").write_text("RATE = 2\n")
    second = own_code.source("pack_rule.rule")
    (package / "more.py").write_text("X = 2\n")
    assert len({first, second, own_code.source("pack_rule.rule")}) == 3
    assert own_code.load("pack_rule.rule").RATE == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "module bad_rule has neither init and step nor allocate"),
        ("init = 3\nallocate = 4\n", "has neither init and step nor allocate"),
        ("raise RuntimeError('no')\n", "module bad_rule cannot be imported: no; mend it"),
    ],
)
def test_a_module_that_is_no_strategy_is_refused(folder, text, said):
    (folder / "bad_rule.py").write_text(text)
    with pytest.raises(InputError, match=said):
        own_code.strategy("bad_rule")


@pytest.mark.parametrize("path", ["nowhere_rule", "nowhere.rule", "", "math", "..os"])
def test_a_path_that_is_no_python_file_is_refused(folder, path):
    with pytest.raises(InputError, match="there is no module"):
        own_code.source(path)
