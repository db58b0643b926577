"""The front door: these names and no others, typed, documented, and free until they are used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import detflow

FUNCTIONS = {
    "check",
    "compare",
    "convert",
    "diff",
    "evaluate",
    "export",
    "fetch_weights",
    "init",
    "list_weights",
    "load_detector",
    "make_records",
    "predict",
    "push",
    "read_samples",
    "train",
}
CLASSES = {"Action", "Box", "Detection", "Detections", "Detector", "ExperimentConfig", "LabelMap"}
ERRORS = {
    "ArtifactError",
    "ConfigError",
    "DataError",
    "DetflowError",
    "EnvironmentFault",
    "Locked",
}
NAMES = FUNCTIONS | CLASSES | ERRORS | {"Sample", "__version__"}


def test_these_are_the_public_names():
    assert set(detflow.__all__) == NAMES
    assert list(detflow.__all__) == sorted(detflow.__all__)
    assert dir(detflow) == sorted(detflow.__all__)


def test_every_name_is_there_for_programs_and_for_type_checkers():
    tree = ast.parse(Path(detflow.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {(f"{node.module}", alias.name) for node in guarded.body for alias in node.names}
    lazy = {(home, name) for home, names in detflow._HOMES.items() for name in names}
    assert typed == lazy
    assert {name for _, name in lazy} == NAMES - {"__version__"}
    for name in NAMES:
        assert getattr(detflow, name) is not None
    assert (Path(detflow.__file__).parent / "py.typed").exists()


def test_importing_it_costs_nothing_and_no_submodule_hides_a_name():
    program = (
        "import sys, pkgutil; before = set(sys.modules); import detflow\n"
        "new = set(sys.modules) - before\n"
        "assert {name for name in new if 'detflow' in name} == {'detflow', 'detflow.version'}\n"
        "assert not {'numpy', 'tensorflow', 'PIL', 'click', 'pydantic'} & set(sys.modules)\n"
        "modules = {module.name for module in pkgutil.iter_modules(detflow.__path__)}\n"
        "assert not modules & set(detflow.__all__), modules\n"
        "detflow.LabelMap(('cat',)), detflow.DataError('x')\n"
        "assert 'numpy' not in sys.modules\n"
        "detflow.predict, detflow.Detector, detflow.check, detflow.train, detflow.export\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_documents_every_argument_and_names_its_result(name):
    function = getattr(detflow, name)
    signature = inspect.signature(function)
    documented = inspect.getdoc(function)
    assert documented.partition("\n")[0].endswith(".")
    for parameter in signature.parameters.values():
        assert f"    {parameter.name}: " in documented, parameter.name
        assert parameter.annotation is not inspect.Parameter.empty
    assert signature.return_annotation is not inspect.Signature.empty
    assert "Returns:" in documented or "Yields:" in documented
    assert "Raises:" in documented
    # What is not the subject of the call has to be named.
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert len(positional) <= 3


def test_every_class_is_documented():
    for name in CLASSES | ERRORS | {"Sample"}:
        assert inspect.getdoc(getattr(detflow, name)), name


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'detflow' has no attribute 'predicts'"):
        _ = detflow.predicts
