"""The layer rule: flows -> tasks -> {storage, tasks.numerics}, and what each layer may know of the world."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import caching

ROOT = Path(__file__).parents[1]
STAGES = sorted(
    path for path in (ROOT / "tasks").rglob("*.py") if "numerics" not in path.parts and "keyed_by(" in path.read_text()
)
# runs and tells of the stages, and holds values: no number is made here
MACHINERY = {"tasks.caching", "tasks.locks", "tasks.memos", "tasks.progress", "tasks.numerics.configs"}
FORBIDDEN = {
    "tasks/numerics": {"prefect", "pydantic", "duckdb", "pyarrow", "deltalake", "storage", "flows", "yfinance"},
    "storage": {"prefect", "torch", "tasks", "flows"},
    "tasks": {"flows"},
    "flows": {"torch", "duckdb", "deltalake", "pyarrow.parquet"},
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively; name the module in full"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def under(names: set[str], packages: set[str]) -> set[str]:
    return {name for name in names if any(name == package or name.startswith(package + ".") for package in packages)}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_file_imports_what_its_layer_may_not_know(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not under(imported(path), FORBIDDEN[folder]), f"{path} imports what {folder} may not know"


def test_the_mathematics_imports_no_other_task():
    for path in (ROOT / "tasks" / "numerics").glob("*.py"):
        tasks = under(imported(path), {"tasks"})
        assert not {name for name in tasks if not name.startswith("tasks.numerics")}, path


def test_no_stage_imports_another_stage():
    stages = {"tasks.fetch", "tasks.features", "tasks.forecast", "tasks.gate", "tasks.allocate", "tasks.decide"}
    stages |= {"tasks.backtest", "tasks.report"}
    for name in stages:
        place = ROOT / name.replace(".", "/")
        files = list(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for path in files:
            assert not under(imported(path), stages - {name}), path


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_mathematics_imports_without_prefect_storage_or_pydantic():
    modules = [f"tasks.numerics.{path.stem}" for path in (ROOT / "tasks" / "numerics").glob("[a-z]*.py")]
    unwanted = ("prefect", "pydantic", "duckdb", "pyarrow", "storage")
    run(
        f"import importlib, sys; [importlib.import_module(m) for m in {modules}];"
        f"assert not set({unwanted}) & set(sys.modules), set({unwanted}) & set(sys.modules)"
    )


def test_importing_every_flow_leaves_torch_unloaded():
    modules = [f"flows.{path.stem}" for path in (ROOT / "flows").glob("[a-z]*.py")]
    run(f"import importlib, sys; [importlib.import_module(m) for m in {modules}];assert 'torch' not in sys.modules")


def test_light_commands_import_neither_prefect_nor_torch():
    run("import flows.cli, sys; assert not {'prefect', 'torch', 'numba'} & set(sys.modules)")


def test_no_file_of_flows_bears_the_name_of_something_else():
    taken = set(sys.stdlib_module_names) | {"tasks", "storage", "deployments", "tests", "prefect", "torch", "numpy"}
    assert not {path.stem for path in (ROOT / "flows").glob("[a-z]*.py")} & taken


def test_configs_hold_values_and_no_formula():
    tree = ast.parse((ROOT / "tasks/numerics/configs.py").read_text())
    methods = {
        function.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for function in node.body
        if isinstance(function, ast.FunctionDef)
    }
    assert methods == {"__post_init__"}  # the configs' source is left out of every cache key


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def helpers(name: str) -> set[str]:
    """Modules of `tasks` that a stage's answers are made by: all that it imports, itself or through one of them."""
    reached, waiting = set(), [name]
    while waiting:
        place = ROOT / waiting.pop().replace(".", "/")
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        found = {used for used in under(imported(path), {"tasks"}) if (ROOT / f"{used.replace('.', '/')}.py").is_file()}
        found -= {module(stage) for stage in STAGES} | MACHINERY | reached
        reached |= found
        waiting.extend(found)
    return reached - {name}


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_every_module_of_tasks_that_a_stage_imports_is_in_a_key(path):
    keyed = [
        argument.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "keyed_by"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]
    assert helpers(module(path)) <= set(caching.closure(tuple(keyed)))


def test_the_helpers_of_a_stage_are_found_wherever_they_stand():
    found = helpers("tasks.forecast")
    assert {"tasks.histories", "tasks.models", "tasks.own_forecasts", "tasks.panels", "tasks.calendars"} <= found
    assert {"tasks.numerics.training", "tasks.numerics.fitting", "tasks.numerics.loss"} <= found
    assert "tasks.outcomes" in helpers("tasks.gate")
    assert not found & (MACHINERY | {"tasks.features", "tasks.numerics.configs"})
