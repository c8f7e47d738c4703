"""`spinmesh mesh`: from what a lab has of its tissue to checked tetrahedra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError
from spinmesh.settings import MeshOptions

if TYPE_CHECKING:
    from spinmesh.meshing.fill import Filling

OUT = (".zarr", ".vtu", ".msh")
PICTURES = (".png", ".html")
INPUTS = (
    "Closed surfaces (.ply, .stl, .obj, .off, .vtp, .wrl), skeletons (.swc, .csv, .txt) and "
    "substrates (.json), each a compartment, nested or apart; or one label volume (.nii, .tif, "
    ".zarr), one file of tetrahedra, or one of a packed bundle's keys (.yaml)."
)
COMPARTMENTS = (
    "Labels in place of 1, 2, ... that the inputs, what lies within a part of the same input, and "
    "last the water get: 1,1,3. 0 stays empty."
)
SIZE = "um, of edges away from surfaces; twice their median edge if left out."
MARGIN = "um from the surfaces to the box; a tenth of its length if left out."
CUT = (
    "Cut flat by the walls of a box, X,Y,Z,X,Y,Z (lowest and highest, um), or of the file's `cell`."
)
CURVED = "Tets of ten nodes, on the smooth surface that the corners were taken from."
SCALE = "Length unit of the inputs, um; 1 if left out and the size plausible."
Inputs = Annotated[list[Path], typer.Argument(help=INPUTS)]
Out = Annotated[Path | None, typer.Option(help="FILE.zarr, FILE.vtu or FILE.msh.")]
Check = Annotated[bool, typer.Option("--check", help="Report on the inputs; 1 if one is unusable.")]
Size = Annotated[float | None, typer.Option(help=SIZE)]
Box = Annotated[bool, typer.Option("--box", help="Water in a box around all.")]
Margin = Annotated[float | None, typer.Option(help=MARGIN)]
Tight = Annotated[
    float | None, typer.Option(help="Water within this distance (um) of the surfaces.")
]
Cut = Annotated[str | None, typer.Option(help=CUT)]
Curved = Annotated[bool, typer.Option("--curved", help=CURVED)]
Compartments = Annotated[str | None, typer.Option(help=COMPARTMENTS)]
Scale = Annotated[float | None, typer.Option(help=SCALE)]
Time = Annotated[
    float | None,
    typer.Option(min=1, help="s, for the mesher; an hour, 45 s to repair a broken surface."),
]
Memory = Annotated[
    float | None, typer.Option(min=0.1, help="GB, for the mesher; 80 % of the machine's.")
]
Picture = Annotated[
    Path | None, typer.Option(help="FILE.png, or FILE.html to turn it in a browser.")
]
LabelKey = Annotated[
    str | None, typer.Option(help="Of tetrahedra: cell data that holds the compartments' labels.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a store or file of the same name.")]


def mesh(
    inputs: Inputs,
    out: Out = None,
    check: Check = False,
    size: Size = None,
    box: Box = False,
    margin: Margin = None,
    tight: Tight = None,
    cut: Cut = None,
    compartments: Compartments = None,
    curved: Curved = False,
    scale_to_um: Scale = None,
    label_key: LabelKey = None,
    time_limit: Time = None,
    memory_limit: Memory = None,
    picture: Picture = None,
    force: Force = False,
) -> None:
    """Mesh surfaces, or check what is there, and say what was repaired."""
    if check:
        if out is not None:
            raise ConfigError("--check writes nothing: leave --out away, or --check.")
        raise typer.Exit(0 if _usable(inputs, scale_to_um) else 1)
    values: dict[str, Any] = {"size_um": size, "box": box, "margin_um": margin, "tight_um": tight}
    values |= {"compartments": _numbers(compartments), "scale_to_um": scale_to_um}
    values |= {"time_limit_s": time_limit, "memory_limit_gb": memory_limit, "label_key": label_key}
    values |= {"curved": curved, "cut_um": _corners(cut)}
    if out is None or out.suffix not in OUT:
        raise ConfigError(f"--out {out or ''}: give a name that ends in {', '.join(OUT)}.")
    if picture is not None and picture.suffix not in PICTURES:
        raise ConfigError(f"--picture {picture}: give a name that ends in {', '.join(PICTURES)}.")
    for file in filter(None, (out, picture)):
        measured.refuse_existing(file, force)
    _build(inputs, MeshOptions.checked(values, "spinmesh mesh"), out, picture)


def _corners(text: str | None) -> list[float] | str | None:
    if text is None or text == "cell":
        return text
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(f"--cut {text}: give six numbers in um, or cell.") from None


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.replace(",", " ").split()
    if not words or not all(word.isdigit() for word in words):
        raise ConfigError(f"--compartments {text}: give whole numbers, such as 1,2,3.")
    return [int(word) for word in words]


def _usable(inputs: Sequence[Path], scale_to_um: float | None) -> bool:
    """Whether all inputs can be used; prints a report on each, and on all surfaces together."""
    from spinmesh.inputs.checking import check

    usable = True
    for name, report in check(inputs, scale_to_um):
        words = f"{name}: {'usable' if report.usable else 'UNUSABLE'}"
        words = "\n  ".join([words, *report.lines])
        measured.tell(words, file=str(name), usable=report.usable, report=report.lines)
        usable = usable and report.usable
    return usable


def _build(inputs: Sequence[Path], options: MeshOptions, out: Path, picture: Path | None) -> None:
    from spinmesh.inputs.building import build

    filling = build(inputs, options).named(out.stem)
    _write(filling, out)
    if picture is not None:
        _draw(filling, picture)
        measured.tell(f"{picture}: the picture", file=str(picture))


def _draw(filling: Filling, picture: Path) -> None:
    from spinmesh.io import write_text
    from spinmesh.report.inputs import plot_input
    from spinmesh.report.page import mesh_scene, page_of

    if picture.suffix == ".png":
        plot_input(filling.mesh, filling.lines, picture)
    else:
        write_text(page_of([mesh_scene(filling.mesh, filling.lines)]), picture)


def _write(filling: Filling, out: Path) -> None:
    from spinmesh.io import save
    from spinmesh.io.meshes import write_mesh
    from spinmesh.meshing.check import check_tets
    from spinmesh.provenance import Provenance

    mesh = filling.mesh
    if out.suffix == ".zarr":
        save(mesh, out, Provenance(notes=filling.lines))
    else:
        write_mesh(mesh, out)
    lines = (*filling.lines, *check_tets(mesh).lines)
    words = f"{out}: {len(mesh.tets):,} tets in {len(mesh.labels)} compartments"
    words = "\n".join([*(f"  {line}" for line in lines), words])
    measured.tell(words, file=str(out), tets=len(mesh.tets), labels=mesh.labels, notes=lines)
