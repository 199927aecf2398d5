"""Stage *tune*: which hyper-parameters forecast best, judged year by year on what followed.

A study is nothing but its rows in the table of trials. For every new trial the sampler is made anew from them, seeded
by (seed, trial number), so a study that was stopped or killed proposes what it would have proposed undisturbed.

The objective of every space is the mean Gaussian negative log likelihood of the forecasts of all sessions, to be
minimised. `document_a` takes only its ranges from the founding document, which maximised the Sharpe ratio of a
validation period, on a split that counted sessions where it meant rows and so trained on the first 9 % of them: the
periods overlapped, and the best of 50 such ratios is mostly luck. Its batches are given in windows, here in chunks
of 63.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from storage import clock, partitions, tables
from storage.errors import InputError
from storage.keys import PanelKey, digest, to_json
from storage.schemas import TABLES
from storage.store import Store, open_store
from tasks import outcomes, panels
from tasks.numerics import judgement
from tasks.numerics.configs import Forecaster
from tasks.numerics.judgement import Candidate

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

State = Literal["complete", "pruned", "failed"]
Row = dict[str, Any]

FAMILY, OBJECTIVE = "forecaster", "nll"
RANDOM_TRIALS = 10  # before the sampler learns from trials
UNPRUNED_TRIALS = 4  # completed before one may be pruned
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Dimension:
    """A parameter that trials choose, by its dotted name."""

    name: str
    kind: Literal["float", "log", "int", "choice"]
    values: tuple[Any, ...]  # low, high and perhaps the step; of a choice, all of them


@dataclass(frozen=True)
class Space:
    """What trials choose from, and what is the same in all of them."""

    dimensions: tuple[Dimension, ...]
    fixed: dict[str, Any] = field(default_factory=dict)


SPACES = {
    "scaled": Space(
        (
            Dimension("training.learning_rate", "log", (5e-4, 5e-3)),
            Dimension("training.epochs", "int", (2, 6)),
            Dimension("training.batch", "choice", (32, 64, 128)),
            Dimension("network.hidden", "choice", (16, 32, 64)),
            Dimension("network.latent", "choice", (4, 8, 16)),
            Dimension("network.likelihood", "choice", ("gaussian", "student_t")),
            Dimension("loss.kl_weight", "float", (0.0, 0.1)),
            Dimension("loss.recency", "float", (0.0, 4.0)),
        )
    ),
    "document_a": Space(
        (
            Dimension("training.learning_rate", "log", (1e-4, 5e-3)),
            Dimension("training.epochs", "int", (100, 2000, 50)),
            Dimension("training.batch", "choice", (1, 2, 8, 16)),
            Dimension("network.hidden", "choice", (128, 256, 512)),
            Dimension("network.latent", "choice", (64, 128, 256)),
            Dimension("loss.kl_weight", "float", (0.01, 0.1, 0.01)),
        ),
        {"network.head": "document", "features.features": "document", "training.patience": 5},
    ),
}


@dataclass(frozen=True)
class Study:
    """What all trials of a name have in common. `terms` are what they would not compare without."""

    name: str
    space: str
    seed: int
    start: date
    end: date
    universe: str
    terms: dict[str, Any]
    code: str  # hash of the source that judges


class Score(NamedTuple):
    """Sum of the negative log likelihoods of some rows."""

    total: float = 0.0
    rows: int = 0
    sessions: int = 0

    def plus(self, other: "Score") -> "Score":
        """Of the rows of both, which share no session."""
        return Score(*(mine + its for mine, its in zip(self, other, strict=True)))

    @property
    def mean(self) -> float:
        """The mean over the rows; NaN without any."""
        return self.total / self.rows if self.rows else np.nan


@dataclass(frozen=True)
class Verdict:
    """How a trial ended: the mean objective after each of its years, and over how many sessions it is taken."""

    state: State
    steps: tuple[float, ...]
    sessions: int


def checked_name(name: str) -> str:
    """The name, if it may name a study."""
    if not _NAME.fullmatch(name):
        raise InputError(f"study name {name!r} must be lower-case letters, digits, - and _, at most 63 of them")
    return name


def space_of(name: str) -> Space:
    """A space by name; raises InputError for an unknown one."""
    if name not in SPACES:
        raise InputError(f"there is no search space {name!r}; give one of {', '.join(SPACES)}")
    return SPACES[name]


def label(name: str) -> str:
    """The space by name and content, so that a study never goes on in other ranges."""
    return f"{name}@{digest(space_of(name))[:16]}"


def config(space: str, chosen: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a trial chose and what its space fixes, as nested parameters."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in sorted((space_of(space).fixed | chosen).items()):
        section, _, entry = name.partition(".")
        found.setdefault(section, {})[entry] = value
    return found


def read(store: Store, study: str) -> list[Row]:
    """The trials of a study in order; empty while there are none."""
    return tables.read(store, "trials", study=study).sort_by("number").to_pylist()


def terms(trials: Sequence[Row]) -> dict[str, Any] | None:
    """What the trials have in common; None where there are none."""
    return json.loads(trials[0]["terms"]) if trials else None


def best(trials: Sequence[Row]) -> Row | None:
    """The completed trial with the best value, the first of equal ones; None where none is completed.

    A forecaster's likelihood is better when it is lower, a strategy's Sharpe ratio when it is higher.
    """
    completed = [row for row in trials if row["state"] == "complete"]
    sign = 1 if not completed or completed[0]["objective"] == OBJECTIVE else -1
    return min(completed, key=lambda row: (sign * row["value"], row["number"]), default=None)


def tuned(store: Store, study: str) -> dict[str, Any]:
    """Nested parameters of a study's best trial.

    Raises InputError where there is no such study, or none of its trials is completed.
    """
    trials = read(store, study)
    found = best(trials)
    if found:
        return json.loads(found["config"])
    if trials:
        raise InputError(
            f"study {study} has no completed trial yet; run `prism tune --name {study}` with more --trials"
        )
    known = sorted({name for name in tables.read(store, "trials", ["study"])["study"].to_pylist() if ":" not in name})
    raise InputError(
        f"there is no study {study!r} in this store; known: {', '.join(known) or 'none, run `prism tune` first'}"
    )


def proposed(study: Study, trials: Sequence[Row]) -> "Trial":
    """The next trial after `trials`: what it chose, and a pruner that compares its steps with theirs."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = int(np.random.SeedSequence((study.seed, len(trials))).generate_state(1)[0])
    made = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS),
    )
    distributions = {entry.name: _distribution(entry) for entry in space_of(study.space).dimensions}
    made.add_trials([_frozen(row, distributions) for row in trials])
    return made.ask(distributions)


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna import distributions

    if dimension.kind == "choice":
        return distributions.CategoricalDistribution(dimension.values)
    low, high, *step = dimension.values
    if dimension.kind == "int":
        return distributions.IntDistribution(low, high, step=step[0] if step else 1)
    return distributions.FloatDistribution(low, high, log=dimension.kind == "log", step=step[0] if step else None)


def _frozen(row: Row, distributions: "dict[str, BaseDistribution]") -> "FrozenTrial":
    """A trial of the table as the sampler knows it."""
    from optuna.trial import TrialState, create_trial

    values = json.loads(row["config"])
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    return create_trial(
        state=states[row["state"]],
        value=row["value"],
        params={name: values[section][entry] for name in distributions for section, _, entry in [name.partition(".")]},
        distributions=distributions,
        intermediate_values=dict(enumerate(row["steps"], 1)),
    )


def score(panel: PanelKey, key: str, horizon: int, known_at: date) -> Score:
    """Score of the predictions under `key` on the outcomes that were known at a date, and on no later price."""
    store = open_store()
    _, rows = partitions.read(store, "predictions", [key])
    y = outcomes.of_rows(panels.load(store, panel), rows, horizon, known_at)
    known = np.isfinite(y)
    own = Candidate(rows["mean"].to_numpy(), rows["variance"].to_numpy()).some(known)
    total = float(judgement.gaussian_nll(y[known], own).sum())
    return Score(total, int(known.sum()), int(rows["session"][known].nunique()))


def record(
    store: Store, study: Study, number: int, chosen: dict[str, Any], forecaster: Forecaster, end: Verdict
) -> None:
    """Write a trial that has ended.

    Its `configuration` names what was judged: equal ones are one configuration, in whatever study.
    """
    row = {
        "key": digest(["trial", study.name, number]),
        "study": study.name,
        "number": number,
        "family": FAMILY,
        "config": to_json(config(study.space, chosen)),
        "configuration": digest([FAMILY, forecaster, study.universe, study.start, study.end]),
        "terms": to_json(study.terms),
        "code": study.code,
        "universe": study.universe,
        "start_date": study.start,
        "end_date": study.end,
        "sessions": end.sessions,
        "state": end.state,
        "objective": OBJECTIVE,
        "value": end.steps[-1] if end.state == "complete" else None,
        "steps": list(end.steps),
        "daily_sharpe": None,
        "returns": None,
        "measures": None,
        "created_at": clock.now(),
    }
    tables.put(store, "trials", pa.Table.from_pylist([row], TABLES["trials"].schema))
