"""The files of a store on S3-compatible storage: objects of a bucket, below a prefix.

An object is whole once its one request has succeeded, and durable then. There are no locks between machines. What must
be done by one at a time is a conditional request (create only if absent, replace only what was read), which the
storage itself decides; what has no such form is done so that doing it twice, or at once, changes nothing. Who deletes
unused objects first says so by a guard, an object too: who keeps one at that moment sees the guard and writes it again.
"""

import os
import re
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import obstore
from deltalake import DeltaTable, WriterProperties, write_deltalake
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem, SubTreeFileSystem

from storage.errors import InputError
from storage.settings import ObjectStorage, current

_PART = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_PLACE = re.compile(f"s3://([a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9])/({_PART}(?:/{_PART})*)/?")
_ATTEMPTS = 20  # at a request that the storage does not answer, or answers with an error of its own
_PATIENCE = 30  # seconds after which a request is not tried again
_CONNECTED_WITHIN = 5  # seconds
_ANSWERED_WITHIN = 60
_AT_ONCE = 8  # requests
_BATCH = 500  # objects that one request deletes
_GUARDED = 600  # seconds after which a guard is one that was left by a kill; its owner stops at half of that


class Stat(NamedTuple):
    """What a listing says of an object, by the names of os.stat_result."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class ObjectPath:
    """A place in a bucket: an object, or the prefix of several, with as much of pathlib's ways as a store uses."""

    bucket: str
    path: PurePosixPath

    @classmethod
    def parse(cls, text: str) -> "ObjectPath":
        """The place that an address names; raises InputError for what is none."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise InputError(
                f"the store {text!r} is no place on S3; write s3://BUCKET/NAME, with letters, digits, - and _"
            )
        return cls(found[1], PurePosixPath(found[2]))

    @property
    def files(self) -> "Bucket":
        """The files of its bucket."""
        return _bucket(self.bucket, current(ObjectStorage))

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self.path.stem

    @property
    def suffix(self) -> str:
        """The end of the last part, with its dot."""
        return self.path.suffix

    @property
    def parent(self) -> "ObjectPath":
        """The prefix that it is in."""
        return ObjectPath(self.bucket, self.path.parent)

    def __truediv__(self, part: str) -> "ObjectPath":
        return ObjectPath(self.bucket, self.path / part)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}"

    def as_uri(self) -> str:
        """Its address."""
        return str(self)

    def relative_to(self, other: "ObjectPath") -> PurePosixPath:
        """The path from another place; raises ValueError where it is not below that."""
        return self.path.relative_to(other.path)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a bucket has no folders."""

    def exists(self) -> bool:
        """Whether there is an object of that name."""
        with suppress(FileNotFoundError):
            return bool(self.stat())
        return False

    is_file = exists

    def is_symlink(self) -> bool:
        """No: a bucket has no links."""
        return False

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        return any(chunk for chunk in obstore.list(self.files.client, str(self.path)))

    def stat(self) -> Stat:
        """Size and time of the object; raises FileNotFoundError."""
        return _stat(obstore.head(self.files.client, str(self.path)))

    def read_bytes(self) -> bytes:
        """The object; raises FileNotFoundError."""
        return bytes(obstore.get(self.files.client, str(self.path)).bytes())

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Objects and prefixes directly below it."""
        found = obstore.list_with_delimiter(self.files.client, str(self.path))
        for name in (*found["common_prefixes"], *(entry["path"] for entry in found["objects"])):
            yield ObjectPath(self.bucket, PurePosixPath(name))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Those directly below it whose name is like the pattern."""
        return (place for place in self.iterdir() if fnmatchcase(place.name, pattern))

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; S3 does not say whether there was one."""
        obstore.delete(self.files.client, str(self.path))


@dataclass(frozen=True)
class Bucket:
    """The files of the stores in a bucket (storage.files says what each function is for)."""

    name: str
    client: S3Store
    storage: ObjectStorage

    @property
    def options(self) -> dict[str, str]:
        """What delta-rs needs."""
        return {
            **self.storage.named(),
            "allow_http": "true",
            "conditional_put": "etag",
            "connect_timeout": f"{_CONNECTED_WITHIN}s",
            "timeout": f"{_ANSWERED_WITHIN}s",
            "max_retries": f"{_ATTEMPTS}",
            "retry_timeout": f"{_PATIENCE}s",
        }

    def uri(self, place: ObjectPath) -> str:
        """A table's address."""
        return str(place)

    def delta(self, place: ObjectPath) -> DeltaTable:
        """The table at a prefix."""
        return DeltaTable(str(place), storage_options=self.options)

    def compact(self, table: DeltaTable, place: ObjectPath, properties: WriterProperties) -> None:
        """Replace all rows by themselves: of two that do so, unlike with Delta's own merge, the second is refused."""
        rows = table.to_pyarrow_dataset(filesystem=self.arrow(place)).to_table()
        write_deltalake(table, rows, mode="overwrite", writer_properties=properties)

    def arrow(self, folder: ObjectPath) -> FileSystem:
        """A prefix as Arrow's own file system."""
        return SubTreeFileSystem(f"{folder.bucket}/{folder.path}", _arrow(self.storage))

    def entries(self, folder: ObjectPath) -> list[tuple[ObjectPath, Stat]]:
        """All objects below a prefix."""
        listed = obstore.list(self.client, str(folder.path))
        return [
            (ObjectPath(self.name, PurePosixPath(entry["path"])), _stat(entry)) for some in listed for entry in some
        ]

    def probe(self, folder: ObjectPath) -> None:
        """Ask for what must be refused."""
        place = folder / f".{uuid.uuid4().hex}"
        self.write(place, b"")
        try:
            if self.create(place, b"") or self._replaced(place, "of another object", b""):
                raise InputError(f"{folder}: the storage ignores conditions of writes; use one that knows If-Match")
        finally:
            place.unlink()

    def write(self, place: ObjectPath, content: bytes) -> None:
        """One request."""
        obstore.put(self.client, str(place.path), content, use_multipart=False)

    def create(self, place: ObjectPath, content: bytes) -> bool:
        """One request, which the storage refuses where there is an object of that name."""
        try:
            obstore.put(self.client, str(place.path), content, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def _replaced(self, place: ObjectPath, tag: str, content: bytes) -> bool:
        """One request, which the storage refuses where there is not the object with this tag."""
        try:
            obstore.put(self.client, str(place.path), content, mode={"e_tag": tag})
        except PreconditionError:
            return False
        return True

    def swap(self, place: ObjectPath, before: bytes, contents: Mapping[ObjectPath, bytes]) -> bool:
        """Write the others, then replace `place` on condition that it is the object that was looked at.

        False may also come of a request whose first answer was lost: it is done then, and looking again tells.
        """
        found = obstore.get(self.client, str(place.path))
        if bytes(found.bytes()) != before:
            return False
        self._write_all({other: content for other, content in contents.items() if other != place})
        return self._replaced(place, found.meta["e_tag"], contents[place])

    def keep(self, contents: Mapping[ObjectPath, bytes], guard: ObjectPath) -> None:
        """Write all, since looking whether they are there costs as much; and again where somebody clears meanwhile."""
        self._write_all(contents)
        while self._was_guarded(guard):
            self._write_all(contents)

    def _was_guarded(self, guard: ObjectPath) -> bool:
        """Whether somebody clears at this moment; then only once that has ended."""
        left, until = set(self._below(guard)), time.monotonic() + _GUARDED
        if not left:
            return False
        while left and time.monotonic() < until:
            time.sleep(0.5)
            left &= set(self._below(guard))
        for place in left:  # its owner was killed
            place.unlink()
        return True

    def _below(self, folder: ObjectPath) -> list[ObjectPath]:
        return [place for place, _ in self.entries(folder)]

    def clear(self, places: Collection[ObjectPath], before: float, guard: ObjectPath) -> list[int]:
        """Raise the guard, then delete what is still old: what was kept before is young, who keeps later sees it."""
        mine, until, gone = guard / uuid.uuid4().hex, time.monotonic() + _GUARDED / 2, []
        self.write(mine, b"")
        try:
            there = dict(self.entries(guard.parent))
            old = [place for place in places if place in there and there[place].st_mtime < before]
            for start in range(0, len(old), _BATCH):
                if time.monotonic() > until:
                    break  # the rest goes another time
                some = old[start : start + _BATCH]
                obstore.delete(self.client, [str(place.path) for place in some])
                gone += [there[place].st_size for place in some]
        finally:
            mine.unlink()
        return gone

    def fetch(self, place: ObjectPath, target: Path) -> None:
        """Read an object into a file, with its time."""
        found = obstore.get(self.client, str(place.path))
        target.write_bytes(found.bytes())
        changed = _stat(found.meta).st_mtime
        os.utime(target, (changed, changed))

    def locked(self, place: ObjectPath, wait: bool = True) -> AbstractContextManager[bool]:
        """No lock: what it would save from being done twice may be done twice here."""
        return nullcontext(True)

    def sync(self) -> None:
        """Do nothing: what was answered is durable."""

    def _write_all(self, contents: Mapping[ObjectPath, bytes]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self.write, contents.keys(), contents.values()))


def _stat(entry: "obstore.ObjectMeta") -> Stat:
    return Stat(entry["size"], entry["last_modified"].timestamp())


@lru_cache(maxsize=4)
def _bucket(name: str, storage: ObjectStorage) -> Bucket:
    client = S3Store(
        name,
        config=storage.named(),
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECTED_WITHIN),
            "timeout": timedelta(seconds=_ANSWERED_WITHIN),
        },
        retry_config={"max_retries": _ATTEMPTS, "retry_timeout": timedelta(seconds=_PATIENCE)},
    )
    return Bucket(name, client, storage)


@lru_cache(maxsize=4)
def _arrow(storage: ObjectStorage) -> S3FileSystem:
    known = storage.named()
    scheme, _, host = known.get("endpoint", "https://").partition("://")
    return S3FileSystem(
        access_key=known["access_key_id"],
        secret_key=known["secret_access_key"],
        session_token=known.get("session_token"),
        region=known["region"],
        scheme=scheme,
        endpoint_override=host or None,
        connect_timeout=_CONNECTED_WITHIN,
        request_timeout=_ANSWERED_WITHIN,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
