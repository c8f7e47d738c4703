"""The page shows what is in the stores, needs nothing else, and answers a mouse in a browser."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray
from typer.testing import CliRunner

from spinmesh import cli
from spinmesh.bloch_torrey import Signals
from spinmesh.errors import ConfigError, StoreError
from spinmesh.grid import Grid
from spinmesh.images import Synthesis
from spinmesh.inversion import Reconstruction, Target
from spinmesh.inversion.voxels import VOXEL_NUMBERS, ShapeMaps
from spinmesh.io import save
from spinmesh.mesh import Substrates, TetMesh, sizes
from spinmesh.provenance import Provenance
from spinmesh.report.page import mesh_scene, table_scene, volume_scene
from spinmesh.shapes import ShapeModel
from spinmesh.view import write_page

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NOTES = ["compartment 1: core.ply", "compartment 2: $shell</script>.ply", "a repair"]


def places(packed: str, scene: dict[str, Any]) -> ndarray:
    """Points (um) from the lowest corner on."""
    return np.frombuffer(b64decode(packed), "<u2").reshape(-1, 3) / 65535 * scene["um"]


def scenes_in(page: str) -> dict[str, dict[str, Any]]:
    data = page.partition('type="application/json">')[2].partition("</script>")[0]
    return {scene["name"]: scene for scene in json.loads(data)["scenes"]}


def shape_maps() -> ShapeMaps:
    """Of 4 x 3 x 5 voxels, the second axis towards the back and the third to the right.

    Each number of a voxel is 100 i + 10 j + k; the first voxel has no shape.
    """
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.tensor([[0.0, 0, 2], [0, -1, 0], [1, 0, 0]])
    voxel = torch.cartesian_prod(torch.arange(4), torch.arange(3), torch.arange(5))
    value = (voxel * torch.tensor([100, 10, 1])).sum(1).double()
    value[0] = torch.nan
    numbers = value[:, None].expand(-1, len(VOXEL_NUMBERS)).contiguous()
    return ShapeMaps(Grid((4, 3, 5), affine), voxel, numbers, torch.zeros(60, 2).double())


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    nested: TetMesh,
    substrates: Substrates,
    signals: Signals,
    target: Target,
    target_mesh: Substrates,
    model: ShapeModel,
    reconstruction: Reconstruction,
    synthesis: Synthesis,
) -> Path:
    """A folder as a run leaves it, with one shard."""
    folder = tmp_path_factory.mktemp("results") / "small"
    stores: dict[str, Any] = {
        "mesh/substrates.zarr": substrates,
        "mesh/target.zarr": target_mesh,
        "mesh/inputs/nested.zarr": nested,
        "simulate/signals.zarr": signals,
        "simulate/shards/0-of-2.zarr": signals,
        "simulate/target.zarr": target,
        "reconstruct/reconstruction.zarr": reconstruction,
        "reconstruct/shape_model.zarr": model,
        "reconstruct/voxels.zarr": shape_maps(),
        "synthesise/samples.zarr": synthesis,
    }
    for place, noun in stores.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        save(noun, folder / place, Provenance(notes=tuple(NOTES)))
    return folder


def test_a_mesh_has_closed_surfaces_of_the_right_volume(nested: TetMesh) -> None:
    """Curved faces are 16 triangles each: of the core's 48 faces, 2 % too small."""
    scene = mesh_scene(nested, NOTES)
    assert scene["notes"] == ["a repair"]
    shape = scene["shape"]
    assert shape["um"] == pytest.approx(10, rel=1e-6)
    for part, (volume, _) in zip(shape["parts"], sizes(nested), strict=True):
        triangles = np.frombuffer(b64decode(part["triangles"]), "<u4").reshape(-1, 3)
        corners = places(part["frames"][0], shape)[triangles]
        assert np.linalg.det(corners).sum() / 6 == pytest.approx(volume, rel=2e-2)


def test_large_surfaces_are_drawn_with_few_triangles(nested: TetMesh) -> None:
    """Which enclose their volume, to the 2 % of the pieces of curved faces."""
    shape = mesh_scene(nested, NOTES, most=2000)["shape"]
    for part, (volume, _) in zip(shape["parts"], sizes(nested), strict=True):
        triangles = np.frombuffer(b64decode(part["triangles"]), "<u4").reshape(-1, 3)
        assert len(triangles) <= 1000
        corners = places(part["frames"][0], shape)[triangles]
        assert np.linalg.det(corners).sum() / 6 == pytest.approx(volume, rel=2e-2)


def test_frames_of_a_table_are_its_shapes(substrates: Substrates) -> None:
    """Volumes of the 16-bit frames, on one list of triangles, to the 2 % of curved faces."""
    scene = table_scene("table", substrates, [1, 4])
    part = scene["shape"]["parts"][0]
    triangles = np.frombuffer(b64decode(part["triangles"]), "<u4").reshape(-1, 3)
    for row, frame in zip((1, 4), part["frames"], strict=True):
        volume = np.linalg.det(places(frame, scene["shape"])[triangles]).sum() / 6
        assert volume == pytest.approx(float(sizes(substrates.mesh(row))[0, 0]), rel=2e-2)
    assert scene["shape"]["labels"][1].startswith(f"no. 4, {substrates.family[4]}")


def test_maps_have_their_axes_towards_right_front_and_up() -> None:
    """Voxel (i, j, k) lies at x = k, y = -j, z = i; what has no value is 0 on the page."""
    scene = volume_scene("voxels", shape_maps())["volume"]
    assert scene["shape"] == [5, 3, 4] and scene["mm"] == [2, 1, 1]
    steps = np.frombuffer(b64decode(scene["maps"][0]["values"]), "<u2").reshape(4, 3, 5)
    low, high = scene["maps"][0]["low"], scene["maps"][0]["high"]
    value = low + steps / 65535 * (high - low)
    for i, j, k in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 4)):
        assert value[i, 2 - j, k] == pytest.approx(100 * i + 10 * j + k, abs=0.02)
    assert steps[0, 2, 0] == 0 and (steps == 0).sum() == 1


def test_the_page_of_a_run_has_a_scene_for_what_can_be_shown(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signals with their shapes, the posterior's samples with the reconstruction; no shards.

    Also from inside the run's folder.
    """
    monkeypatch.chdir(run)
    write_page(["."], tmp_path / "view.html")
    page = (tmp_path / "view.html").read_text()
    scenes = scenes_in(page)
    names = ["substrates", "target", "reconstruction", "voxels", "samples", "nested"]
    assert list(scenes) == names
    assert len(scenes["substrates"]["signals"]["curves"][0]["rows"]) == 7
    assert scenes["target"]["signals"]["curves"][0]["words"] == "measured"
    shape = scenes["reconstruction"]["shape"]
    assert shape["labels"] == ["best", "posterior sample 1 of 2", "posterior sample 2 of 2"]
    assert len(shape["parts"][0]["frames"]) == 3
    assert [part["words"].split()[0] for part in shape["parts"]] == ["reconstruction", "truth"]
    assert len(scenes["reconstruction"]["signals"]["curves"]) == 2
    assert not re.search(r"https?:|[\"']//|src=|@import|url\(|<link", page)
    assert "</script>.ply" not in page, "a note cannot end the script"


def test_a_measured_signal_has_no_truth(run: Path, tmp_path: Path, target: Target) -> None:
    """The run's own target is a shape of its own, and not the one behind another signal."""
    copy = shutil.copytree(run, tmp_path / "results/run")
    other = replace(target, attenuation=target.attenuation.flip(0))
    save(other, copy / "simulate/target.zarr")
    write_page([copy], tmp_path / "view.html")
    scene = scenes_in((tmp_path / "view.html").read_text())["reconstruction"]
    assert [part["words"] for part in scene["shape"]["parts"]] == ["reconstruction"]


def test_what_has_no_picture_is_refused_by_its_kind(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="spinmesh/shape_model here, of which the page shows"):
        write_page([run / "reconstruct/shape_model.zarr"], tmp_path / "view.html")
    with pytest.raises(StoreError, match="no store of spinmesh here"):
        write_page([tmp_path], tmp_path / "view.html")
    done = CliRunner().invoke(cli.app, ["view", str(run), "--out", "page.pdf"])
    assert isinstance(done.exception, ConfigError) and "ends in .html" in str(done.exception)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium of the machine, with WebGL by software."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on this machine")
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.mark.slow
def test_the_page_answers_the_mouse_in_a_browser(run: Path, tmp_path: Path, browser: Any) -> None:
    """From a file: drawn within 3 s, turned, slid through, pointed at, and no word of complaint."""
    file = tmp_path / "view.html"
    assert CliRunner().invoke(cli.app, ["view", str(run), "--out", str(file)]).exit_code == 0
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    paint = (
        "new Promise(done => new PerformanceObserver(list => done(list.getEntries()[0].startTime))"
    )
    first = page.evaluate(paint + ".observe({ type: 'paint', buffered: true }))")
    assert first < 3000  # ms, the aim of the issue

    def scene(name: str) -> None:
        page.get_by_role("button", name=name, exact=True).click()

    def changed(panel: str, action: Any) -> float:
        """Share of the panel's pixels that an action changes."""
        pictures = []
        for step in (lambda: None, action):
            step()
            pictures.append(pixels(page.locator(panel).screenshot()))
        return float((np.abs(pictures[1] - pictures[0]).max(-1) > 16).mean())

    scene("nested")
    middle = centre(page, "#shape canvas")
    assert changed("#shape canvas", lambda: None) == 0
    assert changed("#shape canvas", lambda: drag(page, middle, 150, 60)) > 0.01
    assert changed("#shape canvas", lambda: page.fill("#cut", "100")) > 0.01
    scene("reconstruction")
    assert "best" in page.inner_text("#label")
    assert changed("#shape canvas", lambda: page.fill("#frame", "2")) > 0.005
    assert page.inner_text("#label") == "posterior sample 2 of 2"
    assert changed("#shape canvas", lambda: page.select_option("#by", "0")) > 0.01

    dot = page.locator("#signals circle[cx]").nth(5).bounding_box()
    point = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    assert changed("#shape canvas", lambda: page.mouse.move(*point)) > 1e-4, "the gradient's arrow"
    assert re.match(
        r"measurement \d: .*\nb \d.*\n.*gradient.*\nmeasured", page.inner_text("#reading")
    )
    assert page.locator("#lit circle").count() == 2, "measured and predicted"

    scene("voxels")
    page.mouse.move(*centre(page, "#volume canvas"))
    before = page.inner_text("#reading")
    assert changed("#volume canvas", lambda: page.fill("#slice", "0")) > 0.01
    page.mouse.move(middle[0] + 5, middle[1] + 5)
    assert page.inner_text("#reading") != before
    scene("samples")
    assert page.locator("#gallery canvas").count() == 9
    assert changed("#large", page.locator("#gallery canvas").nth(4).click) > 0.05
    assert page.evaluate("document.body.dataset.error") == "0"
    assert complaints == []


def pixels(picture: bytes) -> ndarray:
    from io import BytesIO

    from PIL import Image

    return np.asarray(Image.open(BytesIO(picture)).convert("RGB")).astype(int)


def centre(page: Any, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Any, start: tuple[float, float], dx: float, dy: float) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + dx, start[1] + dy, steps=3)
    page.mouse.up()
    page.mouse.move(5, 5)
