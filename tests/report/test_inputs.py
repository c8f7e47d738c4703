"""Pictures of inputs show every compartment, and the page turns and cuts them without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from numpy import ndarray

from spinmesh.mesh import TetMesh, ball, sizes
from spinmesh.report.inputs import palette, plot_input
from spinmesh.report.page import page_of, scene_of

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NOTES = ["compartment 1: core.ply", "compartment 2: $shell</script>.ply", "a repair"]


@pytest.fixture(scope="module")
def nested() -> TetMesh:
    """A ball of 5 um, curved, whose tets within 2.5 um are compartment 1."""
    whole = ball(5.0, 2)
    outside = whole.points[whole.tets[:, :4]].mean(1).norm(dim=1) > 2.5
    return TetMesh(whole.points, whole.tets, 1 + outside.long(), "nested")


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


def test_a_scene_has_closed_surfaces_of_the_right_volume(nested: TetMesh) -> None:
    """Curved faces are 16 triangles each: of the core's 48 faces, 2 % too small."""
    scene = json.loads(scene_of(nested, NOTES))
    assert scene["notes"] == ["a repair"] and scene["um"] == pytest.approx(10, rel=1e-6)
    for part, (volume, _) in zip(scene["parts"], sizes(nested), strict=True):
        places = (
            np.frombuffer(b64decode(part["places"]), "<u2").reshape(-1, 3) / 65535 * scene["um"]
        )
        corners = places[np.frombuffer(b64decode(part["triangles"]), "<u4").reshape(-1, 3)]
        assert np.linalg.det(corners).sum() / 6 == pytest.approx(volume, rel=2e-2)


def test_large_surfaces_are_drawn_with_few_triangles(
    nested: TetMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which encloses their volume, to the 2 % of the pieces of curved faces."""
    monkeypatch.setattr("spinmesh.report.page.MOST_TRIANGLES", 1000)
    for part, (volume, _) in zip(
        json.loads(scene_of(nested, NOTES))["parts"], sizes(nested), strict=True
    ):
        triangles = np.frombuffer(b64decode(part["triangles"]), "<u4").reshape(-1, 3)
        places = np.frombuffer(b64decode(part["places"]), "<u2").reshape(-1, 3) / 65535 * 10
        assert len(triangles) <= 1000
        assert np.linalg.det(places[triangles]).sum() / 6 == pytest.approx(volume, rel=2e-2)


def test_the_page_needs_nothing_from_elsewhere(nested: TetMesh) -> None:
    page = page_of([scene_of(nested, NOTES)])
    assert not re.search(r"https?:|[\"']//|src=|@import|url\(|<link", page)
    assert "</script>.ply" not in page, "a note cannot end the script"
    data = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert [each["name"] for each in json.loads(data)] == ["nested"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on this machine")
def test_the_page_draws_in_a_browser_and_is_cut_open(tmp_path: Path, nested: TetMesh) -> None:
    """In WebGL by software, from a file: no error, and what lies inside is seen in the cut."""
    page = tmp_path / "inputs.html"
    page.write_text(page_of([scene_of(nested, NOTES), scene_of(ball(5.0, 1), [])]))
    picture = tmp_path / "page.png"
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1000,600",
        f"--user-data-dir={tmp_path / 'browser'}", f"--screenshot={picture}", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    body = dict(re.findall(r'data-(\w+)="([\d.]+)"', done.stdout))
    assert body["inputs"] == "2" and body["error"] == "0"
    assert float(body["painted"]) > 0.1
    first, second = (hue for hue, _ in palette(nested, NOTES).values())
    pixels = imread(picture)[:, 200:700]
    assert 0.02 < share(pixels, first) < share(pixels, second)
