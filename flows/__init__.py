"""WHEN: the order of the stages, the dates, and what a person fills in. No arithmetic, no file names."""

import gc
from pathlib import Path

from storage.settings import prepare_environment

# Prefect, numba and BLAS read their settings when they are imported, which is next.
prepare_environment(kernels=Path(__file__).parents[1] / "tasks" / "numerics")

# Modules and tables of rows stay; to look through them after every 700 new objects took a tenth of a run.
gc.set_threshold(50_000, 20, 20)
