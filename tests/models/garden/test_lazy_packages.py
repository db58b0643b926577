"""Packages that import their content only when somebody asks for it."""

import importlib
import sys

import pytest

from detflow.models.garden.lazy_packages import make_lazy


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose `__init__` takes note of its run and imports one of two modules."""
    folder = tmp_path / "heavy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("RUNS = []\nfrom heavy_package.model import Model\n")
    (folder / "model.py").write_text("class Model: pass\n")
    (folder / "broken.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    importlib.invalidate_caches()
    yield "heavy_package"
    for name in [name for name in sys.modules if name.startswith("heavy_package")]:
        del sys.modules[name]


def has_run(package):
    return "RUNS" in vars(sys.modules[package])


def test_a_module_is_imported_without_its_package(package):
    make_lazy({package: {}})
    assert importlib.import_module("heavy_package.model").Model
    assert not has_run(package)


def test_a_module_is_an_attribute_of_the_package(package):
    make_lazy({package: {}})
    assert importlib.import_module(package).model.Model
    assert not has_run(package)


def test_a_name_that_is_known_comes_from_its_module(package):
    make_lazy({package: {"Model": "model"}})
    heavy = importlib.import_module(package)
    assert heavy.Model is importlib.import_module("heavy_package.model").Model
    assert not has_run(package)


def test_any_other_name_runs_the_package(package):
    make_lazy({package: {}})
    heavy = importlib.import_module(package)
    assert not has_run(package)
    assert heavy.Model is importlib.import_module("heavy_package.model").Model
    assert has_run(package)
    with pytest.raises(AttributeError, match="nothing"):
        _ = heavy.nothing


def test_what_a_module_misses_is_not_taken_for_the_module_itself(package):
    make_lazy({package: {}})
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        _ = importlib.import_module(package).broken


@pytest.mark.usefixtures("package")
def test_a_package_that_is_not_installed_stays_missing():
    make_lazy({"no_such_package_at_all": {}})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package_at_all")
