"""Results of a run in a bucket, by Snakemake's own plugin: s3, to moto's server, over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner
from workflow.conftest import Run, Workspace

from spinmesh.cli import app
from spinmesh.files.places import ObjectPath
from spinmesh.io.store import attributes_of, check_store

pytestmark = pytest.mark.slow
SIGNALS = "results/tiny/simulate/signals.zarr"


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snakemake_storage_plugin_s3")
    # Its client, botocore, looks for settings there too.
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


def to(place: str | ObjectPath) -> list[str]:
    return ["--default-storage-provider", "s3", "--default-storage-prefix", str(place)]


def test_a_run_into_a_bucket_has_the_bytes_of_a_run_on_a_disk(
    run: Run, new_workspace: Callable[[], Workspace], bucket: ObjectPath
) -> None:
    """Nothing of it is left here, the next run keeps it, and it says how to make it again."""
    workspace, study = new_workspace(), bucket / "study"
    signals = study / SIGNALS
    done = workspace.snakemake(SIGNALS, *to(study))
    assert done.returncode == 0, done.stdout
    assert not (workspace.root / "results").exists()
    for name in ("mesh/substrates.zarr", "simulate/signals.zarr"):
        there, here = study / "results/tiny" / name, run.workspace.results / name
        check_store(there)
        assert attributes_of(there)["manifest"] == attributes_of(here)["manifest"]
    told = CliRunner().invoke(app, ["provenance", str(signals)]).output
    assert f"--default-storage-prefix {study} " in told and f" -- {SIGNALS}\n" in told
    again = workspace.snakemake(SIGNALS, *to(study), "--dry-run")
    assert "Nothing to be done" in again.stdout, again.stdout


def test_a_place_that_cannot_be_had_is_said_before_any_job(
    new_workspace: Callable[[], Workspace], bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no bucket is made for a name that was misspelt."""
    workspace = new_workspace()
    refused = [workspace.snakemake("mesh", *to("s3://nobody/study"))]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused.append(workspace.snakemake("mesh", *to(bucket)))
    for done, words in zip(refused, ("there is no bucket nobody", "no credentials"), strict=True):
        assert done.returncode == 1 and words in done.stdout, done.stdout
        assert "Traceback" not in done.stdout and "localrule" not in done.stdout
    assert not (workspace.root / "results").exists()
