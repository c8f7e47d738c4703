"""`make maps` in its smallest size, and its configuration refused by name."""

import csv
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from spinmesh.errors import ConfigError
from spinmesh.maps import QUANTITIES
from spinmesh.settings.maps import Maps

MAPS = ("--snakefile", "workflow/maps/Snakefile")


def test_a_wrong_key_of_the_configuration_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key `posterior.flow.member`.*`members`"):
        Maps.checked(
            {"acquisition": {"scheme": "x.scheme"}, "posterior": {"flow": {"member": 2}}}, "config"
        )


@pytest.mark.slow
def test_maps_of_a_known_slice_in_the_smallest_size(new_workspace: Callable[[], Any]) -> None:
    """Kernels, training, calibration, a phantom in BIDS and its maps; a second run does nothing."""
    workspace = new_workspace()
    done = workspace.snakemake(*MAPS, config="config/test/maps.yaml")
    assert done.returncode == 0, done.stdout
    results = workspace.root / "results/maps_tiny"
    with open(results / "calibration.csv") as file:
        rows = [(row["quantity"], row["snr"]) for row in csv.DictReader(file)]
    assert set(rows) == set(product(QUANTITIES, ["10-20", "20-40", "40-100"]))
    assert len(list((results / "bids").rglob("*dwimap.nii.gz"))) == 4 * len(QUANTITIES) + 1
    for name in ("coverage", "maps"):
        assert (results / f"figures/{name}.png").stat().st_size > 10_000
    again = workspace.snakemake(*MAPS, "--dry-run", config="config/test/maps.yaml")
    assert "Nothing to be done" in again.stdout
