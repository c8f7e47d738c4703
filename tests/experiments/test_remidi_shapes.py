"""The published shapes: their splits, steps and scalings."""

import pytest
import torch

from experiments.remidi.shapes import distinct_counts, further_parameters, published_substrates
from spinmesh.errors import ConfigError
from spinmesh.mesh import (
    PARAMETERS,
    Substrates,
    SweptDisk,
    swept_disk,
)

TEMPLATE = swept_disk(SweptDisk(rings=1, layers=8, radius_um=3.0, length_um=9.0, order=1))
COUNTS = {"bend_twist": (6, 2, 4), "beading": (12, 6, 12), "fanning": (12, 6, 12)}


def column(table: Substrates, name: str, family: str, *splits: str) -> torch.Tensor:
    """One parameter of a family in some splits."""
    chosen = [
        i
        for i, (f, s) in enumerate(zip(table.family, table.split, strict=True))
        if f == family and s in splits
    ]
    return table.parameters[chosen, PARAMETERS.index(name)]


def test_training_shapes_have_odd_steps_and_held_out_ones_even_as_published():
    table = published_substrates(TEMPLATE, COUNTS, "published", seed=1)
    for name, family, unit in (
        ("bead_count", "beading", 1.0),
        ("fan_angle", "fanning", torch.pi / 180),
    ):
        odd = column(table, name, family, "train") / unit
        even = column(table, name, family, "validation", "test") / unit
        # Degrees go through radians and back: rounding.
        torch.testing.assert_close(odd % 2, torch.ones_like(odd), rtol=0, atol=1e-9)
        torch.testing.assert_close((even + 1) % 2, torch.ones_like(even), rtol=0, atol=1e-9)
        assert float(even.min()) > 0
    heights = column(table, "fan_height", "fanning", "train", "test")
    assert set(heights.tolist()) <= {0.25, 0.5, 0.75}


def test_steps_between_are_for_training_only():
    table = published_substrates(TEMPLATE, COUNTS, "between", seed=1)
    free = column(table, "bead_count", "beading", "train")
    assert bool(((free - free.round()).abs() > 1e-3).any())
    held_out = column(table, "bead_count", "beading", "test")
    assert bool((held_out == held_out.round()).all())


def test_every_shape_has_one_axis_scaled_within_the_published_factors():
    table = published_substrates(TEMPLATE, COUNTS, "published", seed=1)
    first = PARAMETERS.index("scale_x")
    scaling = table.parameters[:, first : first + 3]
    assert bool(((scaling != 1).sum(1) == 1).all())
    assert float(scaling.min()) >= 0.5 and float(scaling.max()) <= 1.5


def test_scaling_an_axis_scales_the_deformed_shape():
    table = published_substrates(TEMPLATE, COUNTS, "published", seed=1)
    from spinmesh.mesh import deform

    parameters = table.parameters.clone()
    first = PARAMETERS.index("scale_x")
    scaling = parameters[:, first : first + 3].clone()
    parameters[:, first : first + 3] = 1.0
    unscaled = deform(TEMPLATE, parameters)
    # One product more or less: rounding of coordinates of about 10 um.
    torch.testing.assert_close(unscaled * scaling[:, None], table.points, rtol=0, atol=1e-12)


def test_the_full_experiment_has_the_published_counts_without_turns():
    counts = distinct_counts(1.0)
    assert counts["bend_twist"] == (26136 // 6, 750, 750)
    assert counts["beading"] == (24696 // 6, 750, 750)
    assert distinct_counts(0.0667)["fanning"] == (291, 50, 50)
    with pytest.raises(ConfigError, match="fraction 0"):
        distinct_counts(0.0)


def test_further_shapes_are_other_ones_than_the_table_holds():
    table = published_substrates(TEMPLATE, COUNTS, "between", seed=1)
    further = further_parameters(TEMPLATE, 5, "between", seed=1)
    assert further.shape == (15, len(PARAMETERS))
    assert float(torch.cdist(further, table.parameters).min()) > 1e-6
