"""Where files and stores lie: on a disk, or on an S3-compatible object store, s3://bucket/key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from pathlib import Path, PosixPath, PurePath
from typing import Any

from spinmesh.errors import ConfigError, MachineError, StoreError

# The object that makes a folder of objects a store; until all others are there it says so.
GROUP, UNFINISHED = "zarr.json", "spinmesh/unfinished"
# Requests at the same time.
AT_ONCE = 16
CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if you have one)."
)
# A machine in a cloud has credentials from there; it is asked where none are set.
CLOUD = "http://169.254."
# Characters of a library's message that are passed on.
MOST_WORDS = 160
# With these a server that does not answer is given up after 15 seconds.
LIMITS = {"connect_timeout": "4s", "timeout": "120s"}
RETRIES = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}


def place(path: str | Path) -> Path:
    """The path, as an ObjectPath if it is `s3://bucket/key`, which pathlib makes `s3:/`."""
    return ObjectPath(path) if PurePath(path).parts[:1] == ("s3:",) else Path(path)


def place_each(value: Any) -> Any:
    """`place` of a path or of a list's; anything else as it is."""
    if isinstance(value, list):
        return [place_each(each) for each in value]
    return place(value) if isinstance(value, Path) else value


class ObjectPath(PosixPath):
    """An object, which answers as a file does, or the folder of those whose keys begin with it.

    StoreError if bucket or credentials are wrong, MachineError if no server answers.
    """

    def __str__(self) -> str:
        inside = self.parts[:1] == ("s3:",)
        return ("s3://" if inside else "") + "/".join(self.parts[inside:])

    def __fspath__(self) -> str:
        raise StoreError(f"{self}: only stores (.zarr) are read there. Copy it to a disk first.")

    def absolute(self) -> ObjectPath:
        return self

    def exists(self, **_: Any) -> bool:
        return self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        return False

    def is_file(self) -> bool:
        try:
            return self.stat().st_size >= 0
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        first = self._ask(lambda objects, bucket: next(iter(objects.list(bucket, self._key)), []))
        return len(first) > 0

    def stat(self, **_: Any) -> os.stat_result:
        size = self._ask(lambda objects, bucket: objects.head(bucket, self._key)["size"])
        return os.stat_result((0,) * 6 + (size, 0, 0, 0))

    def read_bytes(self) -> bytes:
        return self._ask(lambda objects, bucket: bytes(objects.get(bucket, self._key).bytes()))

    def write_bytes(self, data: Any) -> int:
        self._ask(lambda objects, bucket: objects.put(bucket, self._key, data))
        return len(data)

    def unlink(self, missing_ok: bool = True) -> None:
        self._delete([self])

    def iterdir(self) -> Iterator[Any]:  # type: ignore[override]
        return self.glob("*")

    def glob(self, pattern: str) -> Iterator[Any]:  # type: ignore[override]
        depth = len(self.parts) + len(PurePath(pattern).parts)
        return (path for path in self.rglob(pattern) if len(path.parts) == depth)

    def rglob(self, pattern: str) -> Iterator[Any]:  # type: ignore[override]
        files = self._below()
        folders = {above for file in files for above in file.parents if self in above.parents}
        return iter(sorted(path for path in {*files, *folders} if path.match(pattern)))

    def upload(self, source: Path) -> None:
        """Put a file, or a store in place of what lies here, its GROUP last."""
        if source.is_file():
            self.write_bytes(source.read_bytes())
            return
        (self / GROUP).write_bytes(json.dumps({"attributes": {"schema": UNFINISHED}}).encode())
        self._delete([path for path in self._below() if path != self / GROUP])

        def put(file: Path) -> None:
            (self / file.relative_to(source)).write_bytes(file.read_bytes())

        files = {file for file in source.rglob("*") if file.is_file()}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(put, files - {source / GROUP}))
        put(source / GROUP)

    def remove(self) -> None:
        """Take away the object, or all below, a store's GROUP first."""
        (self / GROUP).unlink()
        self._delete([self, *self._below()])

    def check_writable(self) -> None:
        """StoreError or MachineError if nothing can be put beside this object."""
        trial = f"{self._key}.{os.getpid()}.trial"
        self._ask(lambda objects, bucket: objects.put(bucket, trial, b"spinmesh"))
        self._ask(lambda objects, bucket: objects.delete(bucket, [trial]))

    @property
    def _key(self) -> str:
        return "/".join(self.parts[2:])

    def _below(self) -> list[ObjectPath]:
        answer = self._ask(lambda objects, bucket: objects.list(bucket, self._key).collect())
        return [ObjectPath("s3:", self.parts[1], each["path"]) for each in answer]

    def _delete(self, paths: Iterable[ObjectPath]) -> None:
        keys = [path._key for path in paths]
        self._ask(lambda objects, bucket: objects.delete(bucket, keys))

    def _ask(self, request: Callable[[Any, Any], Any]) -> Any:
        """What the server answers; what it refuses is said in one line.

        FileNotFoundError if it has no such object.
        """
        library = _library()
        try:
            return request(library, _bucket(*self.parts[1:2]))
        except (OSError, library.exceptions.BaseError) as error:
            said = str(error)
        if "NoSuchBucket" in said:
            raise StoreError(
                f"{self}: there is no bucket {self.parts[1]}. Make it, or correct the name."
            )
        if CLOUD in said or re.search("Missing (Secret)?AccessKey", said):
            raise StoreError(f"{self}: there are no credentials. {CREDENTIALS}")
        if "401 Unauthorized" in said or "403 Forbidden" in said:
            code = "".join(re.findall("<Code>(.*?)</Code>", said)) or "forbidden"
            raise StoreError(f"{self}: the server refuses ({code}). {CREDENTIALS}")
        if "404 Not Found" in said:
            raise FileNotFoundError(f"{self}: no such object.")
        reason = said.split("\n")[0][:MOST_WORDS]
        raise MachineError(
            f"{self}: no answer ({reason}). Look at AWS_ENDPOINT_URL, and try again."
        )


@cache
def _library() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        remedy = "pip install 'spinmesh[objects]'"
        raise ConfigError(f"s3://...: object stores take obstore. {remedy}") from error
    return obstore


@cache
def _bucket(name: str = "") -> Any:
    """A bucket of the server that the environment names."""
    server = os.environ.get("AWS_ENDPOINT_URL", "https://")
    if not name or not server.startswith(("http://", "https://")):
        raise ConfigError(
            f"s3://{name} at {server}: give s3://bucket/name, and as AWS_ENDPOINT_URL the server, "
            "https://server (if it is not Amazon's)."
        )
    options = LIMITS | {"allow_http": server.startswith("http:")}
    return _library().store.S3Store(name, client_options=options, retry_config=RETRIES)
