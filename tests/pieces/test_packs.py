"""What is replayed from a pack is the direct simulation, to the error that is estimated for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bodies import WAVEFORM, fanned_cells
from pieces.test_pieces import EXCHANGING, double_tube, pulses, tube

from spinmesh.bloch_torrey import Basis, Signals
from spinmesh.bodies import (
    Pack,
    Parts,
    reduce,
    reduce_substrates,
    replay,
    simulate,
    strongest_protocol,
)
from spinmesh.errors import ConfigError, MachineError, ReductionError, StoreError
from spinmesh.io import load, save
from spinmesh.mesh import SweptDisk, TetMesh, sample_substrates, swept_disk
from spinmesh.sequence import PGSE, Acquisition, Sequence, TrapezoidalOGSE
from spinmesh.tissue import Tissue

TOLERANCE = 1e-3
LOOSE, FINE = Basis(tolerance=TOLERANCE), Basis(tolerance=1e-7)
STRENGTH = 150.0, 20.0  # mT/m, ms


def largest_error(replayed: Parts, mesh: TetMesh, tissue: Tissue) -> float:
    """Of S0, against a direct simulation that is good to 1e-7."""
    exact = simulate(mesh, tissue, replayed.signals.acquisition, FINE)
    return float(((replayed.signals.signal - exact.signal).abs() / exact.unweighted).max())


@pytest.fixture(scope="module")
def exchanging() -> Pack:
    """Of two materials with a membrane and a wall that relaxes, as one body."""
    return reduce(fanned_cells(), EXCHANGING, strongest_protocol(*STRENGTH), LOOSE)


@pytest.fixture(scope="module")
def long() -> Pack:
    """Of a body in pieces."""
    return reduce(tube(), Tissue.uniform(2.0, 40.0), pulses(), LOOSE)


def of(sequence: Sequence, gradient: float) -> Acquisition:
    """Along x, and aslant, in mT/m."""
    vectors = gradient * torch.tensor([[1, 0, 0], [0.6, 0, 0.8]], dtype=torch.float64)
    return Acquisition((sequence,), torch.zeros(2).long(), vectors)


OTHERS = {
    "pulses": of(PGSE(5.0, 12.0), 100.0),
    "oscillating": of(TrapezoidalOGSE(8.0, 10.0, 2), 130.0),
    "free": of(WAVEFORM, 40.0),
}
SHORT = OTHERS["pulses"]


@pytest.mark.parametrize("name", OTHERS)
def test_other_protocols_are_replayed_within_their_estimated_error(
    exchanging: Pack, name: str
) -> None:
    replayed = replay(exchanging, OTHERS[name])
    assert largest_error(replayed, fanned_cells(), EXCHANGING) <= replayed.basis_error <= TOLERANCE
    assert replayed.cut_bound == 0.0 and "pieces" not in replayed.words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "tissue"), [(tube(order=2), Tissue.uniform(2.0, 40.0)), (double_tube(), EXCHANGING)]
)
def test_pieces_are_replayed_within_their_estimated_error(mesh: TetMesh, tissue: Tissue) -> None:
    pack = reduce(mesh, tissue, pulses(), LOOSE)
    replayed = replay(pack, pulses(b=0.7))
    assert len(pack.models.sizes) > 1 and "pieces" in replayed.words
    error = largest_error(replayed, mesh, tissue)
    assert error <= replayed.basis_error + replayed.cut_bound <= TOLERANCE


def test_a_faster_tissue_that_relaxes_more_is_replayed_exactly() -> None:
    """All diffusivities and permeabilities by one factor, and all water relaxing faster by one."""
    stretch, shift = 1.4, 0.01
    changed = replace(
        EXCHANGING,
        diffusivity=stretch * EXCHANGING.diffusivity,
        t2=1 / (stretch / EXCHANGING.t2 + shift),
        permeability={(1, 2): stretch * 0.05},
        wall_permeability={2: stretch * 0.01},
    )
    pack = reduce(fanned_cells(), EXCHANGING, strongest_protocol(*STRENGTH), Basis(tolerance=1e-5))
    replayed, before = replay(pack, SHORT, changed), replay(pack, SHORT).signals
    error = largest_error(replayed, fanned_cells(), changed)
    assert error <= replayed.basis_error <= 1e-5
    change = (replayed.signals.attenuation - before.attenuation).abs()
    assert float(change.min()) > 100 * error


def test_slower_water_in_pieces_stays_within_estimate_and_bound(long: Pack) -> None:
    changed = Tissue.uniform(1.5, 25.0)
    replayed = replay(long, pulses(), changed)
    error = largest_error(replayed, tube(), changed)
    assert error <= replayed.basis_error + replayed.cut_bound <= TOLERANCE


def test_pieces_that_are_replayed_together_have_each_their_own_signals(long: Pack) -> None:
    """Pieces of one size are a batch; steps may change a tenth of the tolerance (`SETTLED`)."""
    sizes = long.models.sizes.clone()
    sizes[0, 1] = sizes[0, 0]  # the others keep a fifth more
    uneven = replace(long, models=replace(long.models, sizes=sizes))
    used = sizes[:, 1].tolist()
    assert min(used) < max(used) and len(set(used)) < len(used)
    models = [piece.model(size) for piece, size in zip(uneven.models.split(), used, strict=True)]
    alone = sum(Signals.of(model, pulses()).signal for model in models)
    together = replay(uneven, pulses(), tolerance=1.0).signals
    error = (together.signal - alone).abs() / together.unweighted
    assert float(error.max()) <= 0.1 * TOLERANCE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": torch.tensor([1.0, 0.9]).double()}, "density would have to be"),
        ({"diffusivity": torch.eye(3).double().expand(2, 3, 3)}, "diffusivity would"),
        ({"t2": torch.tensor([30.0, 70.0]).double()}, "T2"),
        ({"permeability": {(1, 2): 0.06}}, "permeability would"),
        ({"wall_permeability": {}}, "walls' permeability would"),
    ],
)
def test_a_tissue_that_a_pack_cannot_give_is_refused(
    exchanging: Pack, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{message}.*spinmesh reduce"):
        replay(exchanging, SHORT, replace(EXCHANGING, **changes))


def test_protocols_beyond_a_pack_are_refused_and_say_what_next(exchanging: Pack) -> None:
    strong = strongest_protocol(8 * STRENGTH[0], STRENGTH[1])
    with pytest.raises(ReductionError, match=r"estimated error .*spinmesh reduce"):
        replay(exchanging, strong)
    assert replay(exchanging, strong, tolerance=1.0).basis_error > TOLERANCE


def test_water_that_reaches_farther_than_the_halos_is_refused(long: Pack) -> None:
    longer = Acquisition.pgse([0.1], torch.eye(3)[:1].double(), 1.0, 4.0)
    with pytest.raises(ReductionError, match="halos for 2 ms"):
        replay(long, longer)
    with pytest.raises(ReductionError, match=r"1.1 times the diffusivity"):
        replay(long, pulses(), Tissue.uniform(2.2, 40.0))
    assert replay(long, longer, Tissue.uniform(1.6, 40.0)).cut_bound < TOLERANCE


def test_packs_of_substrates_have_the_signals_of_each(tmp_path: Path) -> None:
    template = swept_disk(SweptDisk(rings=1, layers=3, radius_um=2.0, length_um=9.0))
    shapes = sample_substrates(template, {"beading": 2}, {"radius": (1.0, 2.0)}, {"all": 1.0}, 0)
    water = Tissue.uniform(2.0)
    save(reduce_substrates(shapes, water, SHORT, LOOSE), tmp_path / "pack.zarr")
    pack = load(Pack, tmp_path / "pack.zarr")
    assert pack.names == tuple(shapes.mesh(row).name for row in range(2))
    assert float(pack.cut_bound.max()) == 0.0
    replayed = replay(pack, SHORT).signals
    for row in range(2):
        exact = simulate(shapes.mesh(row), water, SHORT, FINE)
        error = (replayed.signal[row] - exact.signal[0]).abs() / exact.unweighted[0]
        assert float(error.max()) <= TOLERANCE


def test_a_pack_comes_back_bit_for_bit_and_a_damaged_one_does_not(
    exchanging: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pack.zarr"
    save(exchanging, path)
    first, second = (replay(pack, SHORT).signals for pack in (exchanging, load(Pack, path)))
    assert torch.equal(first.signal, second.signal)
    with pytest.raises(StoreError, match="spinmesh/pack"):
        load(Signals, path)
    monkeypatch.setattr("spinmesh.io.store.available_memory", lambda: 1000)
    with pytest.raises(MachineError, match="GB are free"):
        load(Pack, path)
    monkeypatch.undo()
    file = next(file for file in path.rglob("models.moments/c/**/*") if file.is_file())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"has changed .*spinmesh reduce"):
        load(Pack, path)


def test_packs_of_another_version_are_refused(
    exchanging: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(exchanging, tmp_path / "pack.zarr")
    monkeypatch.setattr(Pack, "__store__", replace(Pack.__store__, version=3))
    with pytest.raises(StoreError, match="pack version 3"):
        load(Pack, tmp_path / "pack.zarr")


def test_bases_that_are_not_grown_make_no_pack() -> None:
    for fixed in (Basis(kind="laplace"), Basis(blocks=2)):
        with pytest.raises(ConfigError, match="krylov"):
            reduce(fanned_cells(), EXCHANGING, pulses(), fixed)
