"""Tissue, acquisition files, reduced basis, and stage 2 of a run."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spinmesh.settings.setting import Setting

# How a signal is computed: in a reduced basis, or by the whole system through time.
Method = Literal["reduced", "stepping"]
Row = tuple[float, float, float]
# The error of the propagation itself, of S0.
LEAST_TOLERANCE = 1e-9
# ms; of a signal that lasts a hundred times shorter than any echo nothing is left.
LEAST_T2 = 0.1


class Compartment(Setting):
    """What fills one compartment."""

    diffusivity_um2_per_ms: PositiveFloat | tuple[Row, Row, Row] = 2.0
    """A number, or a symmetric positive definite 3x3 tensor."""
    t2_ms: float = Field(math.inf, ge=LEAST_T2)
    """Transverse relaxation time; the default .inf is none."""
    density: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Spin density relative to the other compartments."""


class InterfaceMembrane(Setting):
    """A permeable membrane between two compartments."""

    between: tuple[int, int]
    """The two compartment labels."""
    permeability_um_per_ms: NonNegativeFloat
    """0 is a sealed membrane."""


class Wall(Setting):
    """Loss through the outer wall of one compartment (surface relaxivity)."""

    compartment: int
    """The compartment's label."""
    permeability_um_per_ms: NonNegativeFloat
    """0 is a reflecting wall."""


class TissueSettings(Setting):
    """What fills the compartments and what their membranes let through."""

    compartments: dict[int, Compartment] = Field({1: Compartment()}, min_length=1)
    """Keyed by the mesh's compartment labels; generated substrates have the one label 1."""
    interfaces: tuple[InterfaceMembrane, ...] = ()
    """Membranes between compartments; pairs left out are sealed."""
    walls: tuple[Wall, ...] = ()
    """Outer walls; compartments left out reflect."""


class AcquisitionFiles(Setting):
    """FSL or MRtrix tables with delta and Delta, or a scheme; paths from the working directory."""

    FILE_KEYS = ("bvals", "bvecs", "delta_ms", "Delta_ms", "TE_ms", "scheme", "sidecar", "image")

    bvals: str | None = None
    """FSL b-values, s/mm^2."""
    bvecs: str | None = None
    """FSL directions: three rows, or one row of three per measurement."""
    delta_ms: PositiveFloat | str | None = None
    """Pulse duration: a number, or a text file with one per measurement."""
    Delta_ms: PositiveFloat | str | None = None
    """Pulse separation, onset to onset: a number, or a text file with one per measurement."""
    TE_ms: PositiveFloat | str | None = None
    """Echo time: a number, or a text file with one per measurement; null: the pulses' end."""
    scheme: str | None = None
    """Camino's (s, T/m), waveforms.csv, Pulseq's .seq, or MRtrix's x y z b."""
    sidecar: str | None = None
    """BIDS JSON file with delta, Delta and the echo time, in seconds."""
    image: str | None = None
    """NIfTI image whose axes FSL's directions are along; null: the signal's, else the world's."""
    b0_threshold_s_per_mm2: NonNegativeFloat = 50.0
    """Measurements up to this b count as unweighted, and need no direction."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> AcquisitionFiles:
        tables = [key for key in ("bvals", "bvecs") if getattr(self, key) is not None]
        if self.scheme is not None and tables:
            raise ValueError(f"`scheme` excludes {', '.join(tables)}; give one or the other")
        needed = ("bvals", "bvecs", *(() if self.sidecar else ("delta_ms", "Delta_ms")))
        missing = [key for key in needed if getattr(self, key) is None]
        if self.scheme is None and missing:
            raise ValueError(
                f"{', '.join(missing)} missing; give all of {', '.join(needed)}, or `scheme`"
            )
        delta, Delta = self.delta_ms, self.Delta_ms
        if isinstance(delta, float) and isinstance(Delta, float) and delta > Delta:
            raise ValueError(
                f"delta_ms {delta:g} exceeds Delta_ms {Delta:g}; swapped, or in two units?"
            )
        return self

    def along(self, image: str | None) -> AcquisitionFiles:
        """The same with an image, if FSL's directions have none yet."""
        needed = image is not None and self.image is None and self.bvecs is not None
        return self.replace(image=image) if needed else self


class Basis(Setting):
    """The reduced basis that signals are computed in: its kind, and its size or tolerance."""

    kind: Literal["krylov", "laplace"] = "krylov"
    """krylov: polynomial-seeded shift-invert Krylov space; laplace: eigenfunctions."""
    degree: NonNegativeInt = 2
    """krylov: degree of the monomials it starts from."""
    blocks: PositiveInt | None = None
    """krylov: blocks of a basis of fixed size; null: grown to `tolerance`."""
    modes: PositiveInt | None = None
    """laplace: eigenfunctions of a basis of fixed size; null: grown to `tolerance`."""
    tolerance: float = Field(1e-5, ge=LEAST_TOLERANCE, lt=1)
    """Largest error of a signal, as a fraction of S0, that the basis may cause; 1e-9, the error of
    the propagation itself, is the least."""

    @property
    def adaptive(self) -> bool:
        """Whether the size follows from the tolerance."""
        return (self.blocks if self.kind == "krylov" else self.modes) is None


class Packs(Setting):
    """Strength that reduced models are kept for; stronger protocols may be refused."""

    strongest_gradient_mt_per_m: PositiveFloat
    """Of any measurement."""
    longest_time_ms: PositiveFloat
    """Of any echo."""


class Simulate(Setting):
    """Stage 2: signals."""

    basis: Basis = Basis()
    """For the substrates and the inputs."""
    target_basis: Basis = Basis(kind="laplace", modes=120)
    """For the demonstration's target: another one, so that no error is shared."""
    snr: PositiveFloat = 50.0
    """Of the target's unweighted signal (Rician noise); .inf for none."""
    shards: PositiveInt = 2
    """Into how many jobs the substrates are divided."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """cuda: each job asks for a GPU; auto: where it happens to have one."""
    packs: Packs | None = None
    """Keep the substrates' reduced models, so that another acquisition is replayed from them; null:
    the substrates are simulated anew."""

    @model_validator(mode="after")
    def _packs_of_grown_bases(self) -> Simulate:
        if self.packs is not None and not (self.basis.kind == "krylov" and self.basis.adaptive):
            raise ValueError("`packs` need a krylov `basis` without `blocks`, grown to a tolerance")
        return self
