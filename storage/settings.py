"""Where and on what PRISM runs: read from the environment, never part of a key.

PRISM_STORE     the store: a folder (default ./store), or s3://BUCKET/NAME on S3-compatible storage
PRISM_CACHE     what may be deleted at any time: compiled kernels, Prefect's result records
PRISM_DEVICE    cpu or cuda
PRISM_WORKERS   chunks of work that run at once
PRISM_RUNNER    threads of the flow's own process, or dask: chunks go to the scheduler at PRISM_DASK_ADDRESS
PRISM_TRAIN_DEPLOYMENT  deployment that trains the blocks' models, like train-forecaster/gpu; default: this process
PRISM_TRAIN_DEVICE  cpu or cuda: what that deployment's workers train on; default: PRISM_DEVICE
PRISM_TRAIN_WAIT, PRISM_TRAIN_TIMEOUT  seconds until a training must have begun there, and have ended
PRISM_BACKUPS   where backups go; default: beside the store
PRISM_KEEP_UNUSED, PRISM_KEEP_RECORDS  days after which maintenance deletes what nothing refers to, and cache records
PRISM_PROXY     proxy of the price source (http://user:password@host:port); the password is never shown
PRISM_REPORT    true (default): each run ends with a report of its scenario; false: `prism report` writes it when asked
PRISM_REPORT_URL  where the folder of reports is served, for links; default: links to the files themselves
PRISM_CA_FILE   certificates that the price source's connection is checked against, where a firm has its own
PRISM_LEAK_GATE true (default): a run that decides a new newest date first decides a past one again with another future
PRISM_PUBLISH_BY  hours before the close of a rebalance date after which nothing is published for it (default 0)
PRISM_APPROVAL  true: nothing is published without a person's approval (default: only what breaks a PRISM_LIMIT_*)
PRISM_APPROVAL_HOURS  how long an answer is waited for (default 8), until PRISM_PUBLISH_BY at most
PRISM_HEARTBEAT_URL  called when a monthly run has succeeded, for a monitor elsewhere that misses it; never shown
AWS_ENDPOINT_URL, AWS_REGION  of a store on S3 (default: Amazon's)
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN  by which it is reached; never shown
"""

import hashlib
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.errors import InputError

# Prefect's server in one process: wait for a slow start, write task runs in batches (else most are lost when
# the process ends), send nothing home.
_PREFECT = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "prism",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "1",
}
# Inside a task one thread does the arithmetic; how many tasks run at once is PRISM_WORKERS.
_ARITHMETIC = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Environment(BaseSettings):
    """Settings from the environment; a wrong value is a sentence that names its variable."""

    def __init__(self) -> None:
        try:
            super().__init__()
        except ValidationError as error:
            prefix = type(self).model_config.get("env_prefix", "")
            said = [
                f"{prefix}{entry['loc'][0]}".upper() + f"={entry['input']}: {entry['msg']}" for entry in error.errors()
            ]
            raise InputError(f"{'; '.join(said)}; correct the environment") from error


_Kind = TypeVar("_Kind", bound=Environment)


class Cache(Environment):
    """Where the cache is, whatever is wrong with the other settings."""

    model_config = SettingsConfigDict(env_prefix="PRISM_", frozen=True)

    cache: Path = Path("~/.cache/prism")


class Settings(Cache):
    """The environment, read and checked."""

    store: str = "store"
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = Field(default=2, ge=1, le=256)
    runner: Literal["threads", "dask"] = "threads"
    dask_address: str = Field(default="", pattern=r"^(\w+://\S+)?$")
    train_deployment: str = Field(default="", pattern=r"^([^/\s]+/[^/\s]+)?$")
    train_device: Literal["", "cpu", "cuda"] = ""
    train_wait: int = Field(default=600, ge=1)
    train_timeout: int = Field(default=6 * 3600, ge=1)
    backups: Path | None = None
    keep_unused: int = Field(default=7, ge=1)
    keep_records: int = Field(default=90, ge=1)
    proxy: SecretStr | None = None
    ca_file: Path | None = None
    report: bool = True
    report_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    leak_gate: bool = True
    publish_by: float = Field(default=0.0, ge=0, le=24 * 7)
    approval: bool = False
    approval_hours: float = Field(default=8.0, gt=0)
    heartbeat_url: SecretStr | None = None

    @property
    def training_device(self) -> str:
        """What the blocks' models are trained on."""
        return self.train_device or self.device


class ObjectStorage(Environment):
    """Where the object storage is and by which keys it is reached, as AWS's own tools name it."""

    model_config = SettingsConfigDict(env_prefix="AWS_", frozen=True)

    endpoint_url: str = Field(default="", pattern=r"^(https?://[^\s/@]+/?)?$")
    region: str = ""
    default_region: str = "us-east-1"
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None

    def named(self) -> dict[str, str]:
        """What object_store, inside delta-rs and obstore, is to know; raises InputError without keys."""
        if not (self.access_key_id and self.secret_access_key):
            raise InputError("a store on S3 needs keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        known = {
            "region": self.region or self.default_region,
            "access_key_id": self.access_key_id.get_secret_value(),
            "secret_access_key": self.secret_access_key.get_secret_value(),
            "session_token": self.session_token.get_secret_value() if self.session_token else "",
            "endpoint": self.endpoint_url.rstrip("/"),
        }
        return {name: value for name, value in known.items() if value}


def current(kind: type[_Kind]) -> _Kind:
    """Settings as the environment has them now, read anew only after it changed: reading takes milliseconds."""
    prefix = kind.model_config.get("env_prefix", "")
    given = sorted(item for item in os.environ.items() if item[0].upper().startswith(prefix))
    return _read(kind, tuple(given))


@lru_cache(maxsize=16)
def _read(kind: type[_Kind], given: tuple[tuple[str, str], ...]) -> _Kind:
    return kind()


def made_cache() -> Path:
    """The folder of PRISM_CACHE, made where it is not there; raises InputError where it cannot be or is read-only."""
    return made(Cache().cache.expanduser(), "the cache", "PRISM_CACHE")


def made(folder: Path, what: str, variable: str) -> Path:
    """A folder that an environment variable names, made, for its owner alone, where it is not there.

    Raises InputError, with `what` the folder is, where it cannot be or is read-only.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
    except OSError as error:
        why = error.strerror
    if why:
        raise InputError(f"{what} {folder} cannot be used ({why}); give another folder as {variable}")
    return folder


def prepare_environment(kernels: Path) -> None:
    """Set what Prefect, numba and BLAS read at import; what the user has set already stays.

    numba notices an edit of the file that holds a compiled function, not of the files it calls. Its cache is
    therefore kept apart for each state of the sources in the folder `kernels`.
    """
    sources = b"".join(file.read_bytes() for file in sorted(kernels.glob("*.py")))
    compiled = {}
    with suppress(InputError):  # importing says nothing to a person; the command that is run does
        compiled["NUMBA_CACHE_DIR"] = str(made_cache() / "numba" / hashlib.sha256(sources).hexdigest()[:16])
    for name, value in {**_PREFECT, **_ARITHMETIC, **compiled}.items():
        os.environ.setdefault(name, value)
