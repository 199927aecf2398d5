"""What makes a cached answer still true: its inputs, the source of the mathematics, the libraries, the store.

`keyed_by(stage, *modules)` is used on two levels. As a Prefect cache policy it makes the reuse of a whole
chunk visible (`Cached`). Its method `key` names each single date's rows in the store, so that losing
Prefect's records loses no work. Prefect's own policies see only a task's own lines: an edited formula would
come back from the cache with the old number.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.serializers import JSONSerializer
from prefect.transactions import IsolationLevel

from storage import tables
from storage.keys import Produced, digest
from storage.schemas import TABLES
from storage.settings import Settings
from storage.store import Store, open_store
from tasks import memos
from tasks.locks import FlockManager
from tasks.numerics import configs

SCHEMA = 1  # raise it to make every stored answer stale
_CONFIGS = "tasks.numerics.configs"  # holds values, which are in the keys, and no formula
_ROOT = Path(__file__).parents[1]
# what answers are made by, beside the stages' own files
_CLOSED_OVER = (
    "tasks.numerics",
    "storage",
    "tasks.accounts",
    "tasks.allocations",
    "tasks.attribution",
    "tasks.calendars",
    "tasks.carried",
    "tasks.claims",
    "tasks.covariances",
    "tasks.crossed",
    "tasks.expectations",
    "tasks.fallbacks",
    "tasks.followed",
    "tasks.garch",
    "tasks.histories",
    "tasks.holdings",
    "tasks.judging",
    "tasks.lanes",
    "tasks.learning",
    "tasks.measuring",
    "tasks.models",
    "tasks.outcomes",
    "tasks.own_code",
    "tasks.own_forecasts",
    "tasks.own_holdings",
    "tasks.panels",
    "tasks.portfolios",
    "tasks.problems",
    "tasks.records",
    "tasks.sights",
    "tasks.studies",
    "tasks.track_records",
    "tasks.trials",
    "tasks.valuation",
)
_RESULTS = Settings().cache.expanduser() / "results"  # Prefect's records: small JSON, may be deleted
_SERIALIZER = JSONSerializer()

# A task of a stage: returns `Produced`, recorded as JSON and not kept in memory.
cached_task: Callable[..., Any] = partial(
    task, persist_result=True, result_storage=_RESULTS, result_serializer="json", cache_result_in_memory=False
)


def source(module: str) -> str:
    """Source text of a module, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"module {module} has no source file; name modules of this project")
    return Path(spec.origin).read_text()


def imports(module: str) -> frozenset[str]:
    """Modules of this project that `module` imports anywhere, inside functions too."""
    return _imported(source(module))


@lru_cache(maxsize=1024)  # stages share most of what they reach
def _imported(text: str) -> frozenset[str]:
    found = set()
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.startswith(_CLOSED_OVER) and _is_module(name))


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All statements within a node; imports are among them, and expressions, which are many, hold none."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, part, ()):
            if isinstance(child, ast.stmt):
                yield child
            yield from _statements(child)


def _is_module(name: str) -> bool:
    """Whether it has a file; to ask the import system about a name in a module would import that module."""
    return (_ROOT / f"{name.replace('.', '/')}.py").is_file()


def closure(modules: tuple[str, ...]) -> tuple[str, ...]:
    """The modules and everything they import, directly or not, that holds formulas or reads the store."""
    reached, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached and module != _CONFIGS:
            reached.add(module)
            waiting.extend(imports(module))
    return tuple(sorted(reached))


@lru_cache(maxsize=64)
def fingerprint(stage: str, modules: tuple[str, ...]) -> dict[str, str]:
    """Hash of each module's source text: the stage's own file, and the closure of the modules named."""
    names = (stage, *closure(modules))
    return {name: hashlib.sha256(source(name).encode()).hexdigest()[:16] for name in names}


@lru_cache(maxsize=1)
def project() -> str:
    """Hash of all source there is, for what is asked as a whole: whatever is edited, it is answered anew."""
    files = sorted(path for folder in ("flows", "tasks", "storage") for path in (_ROOT / folder).rglob("*.py"))
    return digest({str(path.relative_to(_ROOT)): path.read_text() for path in files})


@lru_cache(maxsize=64)
def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of the libraries that change numbers."""
    return {package: importlib.metadata.version(package) for package in packages}


@lru_cache(maxsize=64)  # thousands of keys have it in them
def _made_by(*named: tuple[str, str]) -> str:
    """Hash of sources and libraries, each with its name, and of the constants whose page is in no closure."""
    return digest([configs.TRADING_DAYS, configs.RISK_FREE, named])


@dataclass
class StageKey(CachePolicy):
    """The key of one stage's answers; see `keyed_by`."""

    stage: str = ""
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def code(self) -> dict[str, str]:
        """Hash of the source of each module that the answers depend on."""
        return fingerprint(self.stage, self.modules)

    def key(self, what: str, **inputs: Any) -> str:
        """Key of one answer in the store: `what` it is, its inputs, the code and the libraries."""
        return digest([SCHEMA, what, inputs, _made_by(*self.code.items(), *versions(self.packages).items())])

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        """Key of a chunk in Prefect's cache. The panel is left out: the moments' prefixes name what is read of it."""
        named = {name: value for name, value in inputs.items() if name != "panel"}
        key = f"{open_store().identity}-{self.key(task_ctx.task.task_key, **named)}"  # no store has another's answers
        forget_unless_ours(_RESULTS / key)
        return key


def keyed_by(stage: str, *modules: str, packages: tuple[str, ...] = ("numpy",)) -> StageKey:
    """The cache policy of a stage whose answers depend on `modules` and on `packages`' versions.

    The key holds the inputs, the source of the whole stage file and of `modules` with everything these import
    inside the mathematics and the storage, and the versions. Equal requests wait for one another.
    """
    return StageKey(
        stage=stage,
        modules=modules,
        packages=packages,
        isolation_level=IsolationLevel.SERIALIZABLE,
        lock_manager=FlockManager(),
    )


def forget(store: Store) -> None:
    """Delete Prefect's records of a store that is no more."""
    for record in _RESULTS.glob(f"{store.identity}-*"):
        record.unlink(missing_ok=True)


def forget_older(days: int) -> int:
    """Delete Prefect's records and memos that are older than that, which costs no answer; how many."""
    before = time.time() - 86_400 * days
    there = [*_RESULTS.glob("*"), *memos.place("any").parent.glob("*")]
    old = [record for record in there if record.stat().st_mtime < before]
    for record in old:
        record.unlink(missing_ok=True)
    return len(old)


def forget_unless_ours(record: Path) -> None:
    """Delete a Prefect record that is torn, not ours, or whose rows are gone, so that it counts as a miss.

    A record names its own serializer and Prefect obeys it, so one that says pickle would run whatever it holds. Older
    names of the fields, and names given twice, count too: only what this module itself would write is trusted.
    """
    if record.exists() and not _is_ours(record):
        record.unlink(missing_ok=True)


def _is_ours(record: Path) -> bool:
    try:
        text = record.read_text()
        content = json.loads(text)
        named = json.loads(content["result"])["data"]
        produced = Produced(named["table"], tuple(named["keys"]))
        return _is_written_here(text, content, produced) and _is_stored(produced)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_written_here(text: str, content: dict[str, Any], produced: Produced) -> bool:
    """Whether the record is, to the byte, how our serializer writes `produced`."""
    return (
        all(isinstance(key, str) for key in produced.keys)
        and content.keys() == {"metadata", "result"}
        and content["metadata"]["serializer"] == _SERIALIZER.model_dump()
        and content["result"] == _SERIALIZER.dumps(produced).decode()
        and text == json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    )


def _is_stored(produced: Produced) -> bool:
    """Whether the store holds every row that `produced` names."""
    return produced.table in TABLES and tables.existing(open_store(), produced.table, produced.keys) == {*produced.keys}
