"""Every kind of field comes back from a store as it went in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from spinmesh.errors import StoreError
from spinmesh.io import load, save
from spinmesh.io.codec import encode, gather
from spinmesh.sequence import Acquisition
from spinmesh.settings.setting import Setting
from spinmesh.stored import quantity, store


class Width(Setting):
    """A setting."""

    width_um: float = 1.0
    """Of a beam."""


class Model:
    """A noun with two kinds."""


@dataclass(frozen=True, eq=False)
class Line(Model):
    """One kind."""

    slope: Float[Tensor, " point"] = quantity("1/um")


@dataclass(frozen=True, eq=False)
class Bow(Model):
    """Another kind."""

    radius: float = quantity("um")


@store("spinmesh/everything", version=1, stage="mesh")
@dataclass(frozen=True, eq=False)
class Everything:
    """A noun with a field of each kind."""

    points: Float[Tensor, "point 3"] = quantity("um", finite=True)
    covariance: Float[Tensor, "latent latent"]
    batch: Float[Tensor, "*shape mode"]
    label: Int[Tensor, " point"]
    length: float = quantity("um")
    family: tuple[str, ...] = quantity(axis="point")
    name: str
    shape: tuple[int, int]
    edges: tuple[tuple[float, float], ...]
    floors: Mapping[str, float]
    state: Mapping[str, Tensor]
    empty: Mapping[str, Tensor]
    model: Model
    others: tuple[Model, ...]
    acquisition: Acquisition | None
    setting: Width
    noise: float | None = None
    extra: Float[Tensor, " extra"] | None = None


def everything() -> Everything:
    """Values that a careless codec loses: infinities, empty tuples, one word, repeated axes."""
    return Everything(
        points=torch.arange(6.0).double().reshape(2, 3),
        covariance=torch.eye(3).double(),
        batch=torch.ones(4, 2, 3).double(),
        label=torch.tensor([3, 1]),
        length=math.inf,
        family=("straight", "beaded"),
        name="x",
        shape=(2, 3),
        edges=((0.0, math.inf), (1.0, 2.0)),
        floors={"radius": math.nan, "area": 1.5},
        state={"0.weight": torch.ones(2, 2), "0.bias": torch.zeros(2)},
        empty={},
        model=Bow(2.0),
        others=(Line(torch.ones(5).double()), Bow(3.0)),
        acquisition=Acquisition.pgse([0.0, 1.0], [[1.0, 0, 0], [0, 0, 1]], 8.0, 19.0),
        setting=Width(width_um=math.inf),
    )


def test_every_kind_of_field_comes_back(tmp_path):
    before = everything()
    save(before, tmp_path / "s.zarr")
    after = load(Everything, tmp_path / "s.zarr")
    for name in ("points", "covariance", "batch", "label"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    for name in (
        "length",
        "family",
        "name",
        "shape",
        "edges",
        "empty",
        "setting",
        "noise",
        "extra",
    ):
        assert getattr(before, name) == getattr(after, name)
    assert math.isnan(after.floors["radius"]) and after.floors["area"] == 1.5
    assert {k: v.tolist() for k, v in after.state.items()} == {
        k: v.tolist() for k, v in before.state.items()
    }
    assert after.state["0.bias"].dtype == torch.float32
    assert isinstance(after.model, Bow) and after.model.radius == 2.0
    assert isinstance(after.others[0], Line) and torch.equal(
        after.others[0].slope, before.others[0].slope
    )
    assert torch.equal(after.acquisition.b_value, before.acquisition.b_value)


def test_axes_are_the_annotation_s_and_units_the_declaration_s():
    variables = encode(everything()).variables
    assert variables["points"].dims == ("point", "axis")
    assert variables["covariance"].dims == ("latent", "latent_too")
    assert variables["batch"].dims == ("batch[0]", "batch[1]", "batch[2]")
    # A second `point` axis of another length is named after its variable.
    assert variables["others.0.slope"].dims == ("others.0.slope:point",)
    assert variables["points"].attrs["units"] == "um"
    assert variables["others.0.slope"].attrs["units"] == "1/um"
    assert encode(everything()).attrs["units"]["length"] == "um"


def test_a_value_that_must_be_finite_is_refused_with_its_place(tmp_path):
    points = everything().points.clone()
    points[1, 2] = torch.nan
    with pytest.raises(StoreError, match=r"points: 1 of 6 values .* point 1, axis 2"):
        save(replace(everything(), points=points), tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_json_cannot_hold_is_refused():
    with pytest.raises(StoreError, match="name: object has no place in a store"):
        encode(replace(everything(), name=object()))  # type: ignore[arg-type]


def test_numpy_arrays_stay_numpy(tmp_path):
    @store("spinmesh/steps", version=1, stage="mesh")
    @dataclass(frozen=True, eq=False)
    class Steps:
        levels: Float[np.ndarray, "step 3"]

    Steps.__annotations__["levels"] = Float[np.ndarray, "step 3"]
    save(Steps(np.ones((2, 3))), tmp_path / "s.zarr")
    assert isinstance(load(Steps, tmp_path / "s.zarr").levels, np.ndarray)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_shards_are_put_together_in_order_along_their_axis(count):
    """Some shards are empty where there are more of them than members."""
    whole = replace(everything(), points=torch.rand(7, 3).double(), family=tuple("abcdefg"))
    whole = replace(whole, label=torch.arange(7))
    parts = [
        replace(
            whole,
            points=whole.points[number::count],
            family=whole.family[number::count],
            label=whole.label[number::count],
        )
        for number in range(count)
    ]
    together = gather(parts, "point")
    assert torch.equal(together.points, whole.points)
    assert torch.equal(together.label, whole.label)
    assert together.family == whole.family and together.covariance is whole.covariance
