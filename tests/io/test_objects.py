"""Stores on an object store: moto's server, spoken to over HTTP. The same code as on a disk."""

import json
import re
import sys

import pytest
import torch
from typer.testing import CliRunner

from spinmesh.bundles import ImageSet
from spinmesh.cli import app
from spinmesh.cli.measured import refuse_full
from spinmesh.errors import ConfigError, MachineError, StoreError
from spinmesh.files import places
from spinmesh.io import gather_shards, load, rows_of_shard, save, store
from spinmesh.io.store import check_store
from spinmesh.machine import check_writable
from spinmesh.mesh import TetMesh, ball
from spinmesh.provenance import Provenance


def image_set(count: int) -> ImageSet:
    """Images told apart by their grey level."""
    level = torch.arange(count) / count
    picture, columns = level[:, None, None].expand(-1, 2, 4).clone(), level[:, None].repeat(1, 3)
    return ImageSet(picture, columns, level, ("train",) * count, 20.0)


def flip(place):
    place.write_bytes(bytes([place.read_bytes()[0] ^ 1]) + place.read_bytes()[1:])


@pytest.mark.parametrize("name", [str, places.place, lambda url: str(places.Path(url))])
def test_a_store_comes_back_with_the_digests_it_has_on_a_disk(bucket, tmp_path, name):
    """Whether the place is given in words, or as a path, which drops a stroke."""
    value, url = image_set(9), f"{bucket}/run/images.zarr"
    for path in (name(url), tmp_path / "images.zarr"):
        save(value, path, Provenance(3, "abc"))
        back = load(ImageSet, path)
        assert torch.equal(back.images, value.images) and back.split == value.split
    check_store(url)
    here, there = (store.attributes_of(path) for path in (tmp_path / "images.zarr", url))
    assert here == there and len(there["manifest"]) > 5


def test_what_makes_a_store_is_put_last_and_a_killed_write_is_no_store(bucket, server, monkeypatch):
    """Nor is what it replaced; the next write takes its place, and nothing of it is left over."""
    path = bucket / "mesh.zarr"
    save(ball(5.0, 1), path)
    puts = [each for each in server.asked if each.startswith("PUT")]
    assert puts[0] == puts[-1] and puts[-1].endswith("mesh.zarr/zarr.json")

    class Killed(BaseException):
        pass

    written = places.ObjectPath.write_bytes

    def dies(self, data):
        if "tets" in self.parts:
            raise Killed
        return written(self, data)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(places.ObjectPath, "write_bytes", dies)
        save(ball(5.0, 1), path)
    for read in (lambda: load(TetMesh, path), lambda: check_store(path)):
        with pytest.raises(StoreError, match=r"s3://.*/mesh\.zarr: not complete"):
            read()
    save(image_set(3), path)
    assert torch.equal(load(ImageSet, path).images, image_set(3).images)
    assert {*store.attributes_of(path)["manifest"], "zarr.json"} == {
        file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
    }
    (path / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"not complete, it has no zarr.json"):
        load(ImageSet, path)


def test_damage_names_stage_store_and_object(bucket):
    path = bucket / "mesh.zarr"
    save(ball(5.0, 1), path)
    flip(path / "points/c/0/0")
    words = r"s3://bucket-\w+/mesh\.zarr: points/c/0/0 has changed .* rerun stage `mesh`"
    with pytest.raises(StoreError, match=words):
        load(TetMesh, path)
    (path / "points/c/0/0").unlink()
    with pytest.raises(StoreError, match=words.replace("has changed", "is missing")):
        load(TetMesh, path)


def test_rows_ask_for_the_chunks_that_hold_them_and_for_each_once(bucket, server, monkeypatch):
    monkeypatch.setattr(store, "CHUNK", 128)
    path, whole = bucket / "images.zarr", image_set(9)
    save(whole, path)
    server.asked.clear()
    part = load(ImageSet, path, image=[3, 8])
    assert torch.equal(part.images, whole.images[[3, 8]])
    asked = [name for name in server.keys("GET", path) if name.startswith("images/")]
    assert asked == ["images/c/0/0/0", "images/c/2/0/0", "images/zarr.json"]
    assert len(server.asked) <= len({*server.asked}) + 1  # one file twice: the store's own


def test_shards_of_a_bucket_are_gathered_into_it(bucket):
    whole, paths = image_set(7), [bucket / f"{number}.zarr" for number in range(2)]
    for number, path in enumerate(paths):
        save(whole.chosen(range(7)[rows_of_shard(number, 2)]), path)
    gather_shards(ImageSet, paths, "image", bucket / "whole.zarr")
    assert torch.equal(load(ImageSet, bucket / "whole.zarr").images, whole.images)


REFUSED = {
    "no bucket": (StoreError, {}, "s3://nobody/run.zarr", "no bucket nobody. Make it"),
    "no keys": (StoreError, {"AWS_SECRET_ACCESS_KEY": None}, "", "no credentials. Set AWS_ACCESS"),
    "no server": (MachineError, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "", "no answer"),
    "no scheme": (ConfigError, {"AWS_ENDPOINT_URL": "127.0.0.1:9"}, "", "https://server"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_reached_is_said_before_anything_is_computed(bucket, monkeypatch, case):
    """In one line, within seconds, by the command and by the check of a run's place."""
    kind, settings, url, words = REFUSED[case]
    for name, value in settings.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    url = url or f"{bucket}/cell.zarr"
    options = ["--scheme", "missing.scheme", "--out", url]
    told = CliRunner().invoke(app, ["simulate", "missing.msh", *options]).exception
    for error in (told, *(raised(kind, check, url) for check in (check_writable, check_store))):
        assert isinstance(error, kind) and words in str(error) and "\n" not in str(error)


def raised(kind, check, url):
    with pytest.raises(kind) as caught:
        check(places.place(url))
    return caught.value


def test_a_server_that_refuses_the_keys_is_quoted(bucket, monkeypatch):
    """403 is all that is said of an object; what is listed says why."""
    denied = pytest.importorskip("obstore").exceptions.PermissionDeniedError

    def refuses(*_):
        raise denied(
            "Server returned non-2xx status code: 403 Forbidden: <Code>AccessDenied</Code>"
        )

    with pytest.raises(StoreError, match=r"run: the server refuses \(AccessDenied\)\. Set AWS"):
        (bucket / "run")._ask(refuses)


def test_without_the_library_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    places._library.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'spinmesh\[objects\]'"):
        load(TetMesh, "s3://bucket/mesh.zarr")


def run(*words):
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.slow
def test_commands_take_a_store_of_a_bucket_wherever_they_take_one(bucket, tmp_path):
    """Signals of a mesh there, written there, are those of the same mesh on a disk."""
    scheme = tmp_path / "dwi.scheme"
    scheme.write_text("VERSION: 1\n" + "".join(f"1 0 0 {g} 0.02 0.01 0.05\n" for g in (0, 0.04)))
    there, here = bucket / "demo", tmp_path / "demo"
    for folder in (there, here):
        save(ball(5.0, 1), folder / "cell.zarr")
        run("simulate", folder / "cell.zarr", "--scheme", scheme, "--out", folder / "signals.zarr")
        run("simulate", folder / "cell.zarr", "--scheme", scheme, "--out", folder / "signals.csv")
        run("mesh", folder / "cell.zarr", "--check")
        run("view", folder / "cell.zarr", "--out", folder / "view.html")
    for name in ("signals.csv", "view.html"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    manifests = [store.attributes_of(each / "signals.zarr")["manifest"] for each in (there, here)]
    assert manifests[0] == manifests[1]
    told = json.loads(run("provenance", there / "signals.zarr", "--json"))
    assert told["file"] == f"{there}/signals.zarr" and told["schema"] == "spinmesh/signals"
    again = ["simulate", f"{there}/cell.zarr", "--scheme", f"{scheme}", "--out"]
    refused = CliRunner().invoke(app, [*again, f"{there}/signals.zarr"]).exception
    assert isinstance(refused, ConfigError) and "exists. Give another name" in str(refused)


def test_a_file_of_another_kind_is_not_read_there_nor_a_folder_written(bucket):
    (bucket / "cell.msh").write_bytes(b"$MeshFormat")
    refused = CliRunner().invoke(app, ["mesh", f"{bucket}/cell.msh", "--check"])
    assert isinstance(refused.exception, StoreError), refused.output
    assert "only stores (.zarr) are read there" in str(refused.exception)
    with pytest.raises(ConfigError, match="give a folder on a disk"):
        refuse_full(bucket / "voxel", force=True)


def test_repair_removes_what_is_damaged_from_a_bucket_and_nothing_else(bucket):
    run_folder = bucket / "results/demo"
    (run_folder / "logs/mesh.log").write_bytes(b"")
    for name in ("mesh/whole", "mesh/flipped", "simulate/shards/cut"):
        save(ball(5.0, 1), run_folder / f"{name}.zarr")
    flip(run_folder / "mesh/flipped.zarr/points/c/0/0")
    (run_folder / "simulate/shards/cut.zarr/zarr.json").unlink()
    told = run("repair", run_folder)
    for words in ("stage `mesh`: .*flipped.zarr: points/c/0/0 has changed", "demo: 2 removed"):
        assert re.search(words, told), told
    assert [path.name for path in run_folder.rglob("*.zarr")] == ["whole.zarr"]
    assert "demo: 0 removed" in run("repair", run_folder)
