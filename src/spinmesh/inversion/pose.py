"""First guesses of the pose from the diffusion tensor of the signal itself."""

from __future__ import annotations

from itertools import permutations, product

import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2

# The tensor's six numbers must be over-determined; measurements of lowest b come first.
NEEDED = 12
# Singular values of the design below this fraction of the largest one: a blind direction.
BLIND = 1e-3
# Rounds of weighted least squares: weights A^2 from the fit before.
ROUNDS = 3
# Of a tensor in um^2/ms: far below any noise, far above rounding.
DIGITS = 9


def diffusion_tensor(
    acquisition: Acquisition, attenuation: Float[Tensor, " measurement"]
) -> Float[Tensor, "3 3"]:
    """Apparent diffusion tensor (um^2/ms): log A = -B:D, weighted least squares on b-tensors.

    From the lowest b-values of the timing that lasts longest, where confinement shows best; from
    all timings if that one has too few. Any waveform has a b-tensor, so free ones serve as well as
    PGSE. Raises SequenceError with too few measurements or directions.
    """
    return _tensors(acquisition, attenuation[None])[0]


def _tensors(
    acquisition: Acquisition, attenuation: Float[Tensor, "shape measurement"]
) -> Float[Tensor, "shape 3 3"]:
    """`diffusion_tensor` of many shapes measured alike."""
    index = _lowest(acquisition, attenuation.amin(0))
    B = acquisition.b_tensor[index]
    x, y, z = 0, 1, 2
    design = torch.stack(
        [B[:, x, x], B[:, y, y], B[:, z, z], 2 * B[:, x, y], 2 * B[:, x, z], 2 * B[:, y, z]], 1
    )
    singular = torch.linalg.svdvals(design)
    if float(singular[-1]) < BLIND * float(singular[0]):
        raise SequenceError(
            "pose: the directions of the lowest b-values do not determine a diffusion tensor. "
            "Set `pose: known` or acquire directions all around."
        )
    logarithm, weight = attenuation[:, index].log(), attenuation[:, index]
    for _ in range(ROUNDS):
        # A noise of sigma in A is sigma/A in log A.
        weighted = (logarithm * weight)[..., None]
        found = torch.linalg.lstsq(-design * weight[..., None], weighted).solution[..., 0]
        weight = torch.exp(-found @ design.T).clamp(1e-3, 1.0)
    # Rounding differs with the memory a solve gets; a resumed search has to start at these digits.
    xx, yy, zz, xy, xz, yz = found.round(decimals=DIGITS).unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(-1, 3, 3)


def _lowest(acquisition: Acquisition, attenuation: Tensor) -> Tensor:
    """Measurements with a gradient and a signal, whole shells of lowest b, longest timing."""
    Delta = acquisition.durations("Delta")
    duration = torch.where(torch.isnan(Delta), acquisition.durations("echo_time"), Delta)
    # Rounding to 1 s/mm^2 keeps directions of one nominal b together.
    shell = b_to_s_per_mm2(acquisition.b_value).round()
    usable = (shell > 0) & (attenuation > 0)
    for chosen in (usable & (duration == duration[usable].amax()), usable) if usable.any() else ():
        index = chosen.nonzero()[:, 0]
        if len(index) >= NEEDED:
            index = index[shell[index].argsort(stable=True)]
            return index[shell[index] <= shell[index[NEEDED - 1]]]
    raise SequenceError(
        f"pose: {int(usable.sum())} measurements with a gradient; the tensor needs {NEEDED}. "
        "Set `pose: known` or acquire more directions."
    )


def principal_rotation(
    acquisition: Acquisition, attenuation: Float[Tensor, " measurement"]
) -> Float[Tensor, "3 3"]:
    """Rotation that takes the template's axis z to the direction of fastest diffusion."""
    return principal_rotations(acquisition, attenuation[None])[0]


def principal_rotations(
    acquisition: Acquisition, attenuation: Float[Tensor, "shape measurement"]
) -> Float[Tensor, "shape 3 3"]:
    """`principal_rotation` of many shapes measured alike."""
    frames = torch.linalg.eigh(_tensors(acquisition, attenuation)).eigenvectors
    # Columns, fastest last.
    return frames * torch.linalg.det(frames).sign()[:, None, None]


def quarter_turns() -> list[Float[Tensor, "3 3"]]:
    """The 24 rotations of a cube, the identity first.

    The tensor's axes have no sign, their order is doubtful where two lengths are alike, and the
    turn about an axis is unknown. Improper ones are not among them: |S| sees no point reflection.
    """
    unit = torch.eye(3, dtype=torch.float64)
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = unit[list(order)] * torch.tensor(signs, dtype=torch.float64)
            if torch.linalg.det(turn) > 0:
                found.append(turn)
    return found
