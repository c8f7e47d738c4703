"""Pictures of inputs show every compartment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy import ndarray

from spinmesh.mesh import TetMesh, ball, sizes
from spinmesh.report.inputs import palette, plot_input

NOTES = ["compartment 1: core.ply", "compartment 2: $shell</script>.ply", "a repair"]


def share(pixels: ndarray, colour: str) -> float:
    """Of the pixels, those of the colour's hue, under whatever light: its multiples, brightened."""
    shade = pixels[..., :3].reshape(-1, 3).astype(float)
    shade = shade[np.ptp(shade, axis=1) > 0.1]
    hue, expected = (x - x.min(-1, keepdims=True) for x in (shade, np.array(to_rgb(colour))))
    cosine = hue @ expected / (np.linalg.norm(hue, axis=1) * np.linalg.norm(expected))
    return float((cosine > 0.99).sum() / pixels[..., 0].size)


def test_sizes_of_a_curved_ball(nested: TetMesh) -> None:
    """Sums of both compartments, less twice the membrane, are the ball's; 833 nodes: 0.1 %."""
    whole = ball(5.0, 2)
    volume, area = sizes(whole)[0]
    assert volume == pytest.approx(4 / 3 * np.pi * 125, rel=2e-3)
    assert area == pytest.approx(4 * np.pi * 25, rel=2e-3)
    (core, inner), (shell, both) = sizes(nested)
    assert core + shell == pytest.approx(volume, rel=1e-12)
    assert both - inner == pytest.approx(area, rel=1e-12)


def test_a_picture_is_cut_open_where_there_is_something_inside(
    tmp_path: Path, nested: TetMesh
) -> None:
    """Both colours are seen of two compartments; the inner one is the smaller."""
    plot_input(nested, NOTES, tmp_path / "nested.png")
    (first, _), (second, words) = palette(nested, NOTES).values()
    pixels = imread(tmp_path / "nested.png")
    assert 0.02 < share(pixels, first) < share(pixels, second)
    assert words == "2 $shell</script>.ply"
    plot_input(ball(5.0, 2), [], tmp_path / "whole.png")
    pixels = imread(tmp_path / "whole.png")
    assert share(pixels, second) == 0 and share(pixels, first) > 0.3
