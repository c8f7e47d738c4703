"""Stage 1: a template, shapes made from it, and what a bend leaves alone.

python examples/1_mesh.py [folder for store and figure]
"""

import sys
from pathlib import Path

import spinmesh
from spinmesh.report.meshes import plot_meshes


def main(folder: str | Path = ".") -> float:
    """Bend a cylinder; return the relative change of its volume."""
    # A swept disk: 2 rings of points, 10 layers along z; curved 10-node tets. Lengths are in um.
    template = spinmesh.swept_disk(
        spinmesh.SweptDisk(rings=2, layers=10, radius_um=2.0, length_um=20.0)
    )

    # One shape with the values you give; what you leave out stays as in the template.
    bent = spinmesh.single_substrate(template, {"bend": 0.3, "bend_direction": 0.5})

    # Or a seeded table of shapes: how many of each family, and the ranges of their parameters.
    table = spinmesh.sample_substrates(
        template,
        families={"bend_twist": 3, "beading": 3},
        ranges={"bend": (0.0, 0.3), "twist": (0.0, 1.5), "bead_amplitude": (0.1, 0.3)},
        split={"train": 1.0},
        seed=1,
    )
    spinmesh.save(table, Path(folder) / "substrates.zarr")
    plot_meshes(table, bent, Path(folder) / "1_mesh.png")

    # The entries of the mass matrix add up to the volume, curved elements included. A bend slides
    # cross-sections sideways, so the volume stays that of the straight cylinder.
    water = spinmesh.Tissue.uniform(diffusivity=2.0)
    straight, curved = (spinmesh.assemble(m, water).mass.sum() for m in (template, bent.mesh(0)))
    return abs(float(curved / straight) - 1)


if __name__ == "__main__":
    print(f"bending changed the volume by {main(*sys.argv[1:]):.1e}")
