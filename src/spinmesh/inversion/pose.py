"""A first guess of the pose from the diffusion tensor of the signal itself."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmesh.errors import SequenceError
from spinmesh.sequence import Acquisition
from spinmesh.units import b_to_s_per_mm2

# The tensor's six numbers and S0 must be over-determined; measurements of lowest b come first.
NEEDED = 13


def principal_rotation(
    acquisition: Acquisition, attenuation: Float[Tensor, " measurement"]
) -> Float[Tensor, "3 3"]:
    """Rotation that takes the template's axis z to the direction of fastest diffusion.

    The tensor is fitted by dipy (weighted least squares) to the lowest b-values of the sequence
    with the longest Delta, where confinement shows best. The turn about the axis is left to the
    shape model, which knows bends in every direction. Raises SequenceError with too few
    measurements.
    """
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    longest = acquisition.durations("Delta") == acquisition.durations("Delta").max()
    candidates = longest.nonzero()[:, 0]
    order = candidates[acquisition.b_value[candidates].argsort(stable=True)]
    levels = acquisition.b_value[order]
    if len(order) < NEEDED:
        raise SequenceError(
            f"pose: {len(order)} measurements at the longest Delta; the tensor needs {NEEDED}. "
            "Set `pose: known` or acquire more directions."
        )
    # Whole shells: rounding to 1 s/mm^2 keeps directions of one nominal b together.
    shells = b_to_s_per_mm2(levels).round()
    kept = order[shells <= shells[NEEDED - 1]]
    # One unweighted measurement, which an attenuation has by definition.
    b = np.concatenate([[0.0], b_to_s_per_mm2(acquisition.b_value[kept]).numpy()])
    direction = np.concatenate([np.zeros((1, 3)), acquisition.direction[kept].numpy()])
    signal = np.concatenate([[1.0], attenuation[kept].numpy()])
    table = gradient_table(b, bvecs=direction, b0_threshold=1)
    fit = TensorModel(table, fit_method="WLS").fit(signal)
    frame = torch.from_numpy(fit.evecs.copy())  # columns, fastest first
    rotation = torch.stack([frame[:, 1], frame[:, 2], frame[:, 0]], 1)
    return rotation * torch.linalg.det(rotation).sign()
