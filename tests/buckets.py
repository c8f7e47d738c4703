"""An object store on this machine: moto's server, spoken to over HTTP, and what it was asked."""

import logging
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import pytest

from spinmesh.files import places

# Of no account anywhere.
KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}


@dataclass
class Server:
    """Where it listens, and the requests that came: method and path."""

    url: str
    asked: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": self.url}

    def keys(self, method: str, store: places.ObjectPath) -> list[str]:
        """The objects of a store for which there was a request."""
        start = f"{method} /{'/'.join(store.parts[1:])}/"
        return sorted(each.removeprefix(start) for each in self.asked if each.startswith(start))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Requests are handled one after another, as they come."""
    pytest.importorskip("moto")
    pytest.importorskip("obstore")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    answering = Server("")

    def counted(environment: dict[str, Any], start: Any) -> Any:
        answering.asked.append(f"{environment['REQUEST_METHOD']} {environment['PATH_INFO']}")
        return application(environment, start)

    httpd = make_server("127.0.0.1", 0, counted, threaded=True)
    answering.url = f"http://127.0.0.1:{httpd.server_port}"
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield answering
    httpd.shutdown()


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> places.ObjectPath:
    """An empty bucket of the server, which the environment names."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    places._bucket.cache_clear()
    name = f"bucket-{uuid.uuid4().hex}"
    urlopen(Request(f"{server.url}/{name}", method="PUT")).close()
    server.asked.clear()
    return places.ObjectPath(f"s3://{name}")
