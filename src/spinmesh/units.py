"""The one system of units: um, ms, mT/m, rad. Conversions live here and are called by `io`."""

import math

# Proton gyromagnetic ratio, CODATA 2018: 2.6752218744e8 rad/(s T).
# 1 rad/(s T) = 1e-3 (1/ms) * 1e-9 (per um mT/m) -> 2.675e-4 rad/(ms um mT/m).
GAMMA = 2.6752218744e-4

# One s/mm^2 in ms/um^2.
S_PER_MM2 = 1e-3
MS_PER_S = 1e3
MT_PER_T = 1e3
UM_PER_M = 1e6


def b_from_s_per_mm2(b):
    """b-value from s/mm^2 to ms/um^2."""
    return b * S_PER_MM2


def b_to_s_per_mm2(b):
    """b-value from ms/um^2 to s/mm^2."""
    return b / S_PER_MM2


def ms_from_s(time):
    """Time from s (Camino, BIDS) to ms."""
    return time * MS_PER_S


def s_from_ms(time):
    """Time from ms to s (Camino, BIDS)."""
    return time / MS_PER_S


def rad_from_deg(angle):
    """Angle, or each of several, from degrees to rad."""
    return tuple(map(math.radians, angle)) if isinstance(angle, tuple) else math.radians(angle)


def mt_per_m_from_hz_per_m(gradient):
    """Gradient of protons from Hz/m (Pulseq) to mT/m."""
    return gradient * 2 * math.pi / (GAMMA * MS_PER_S * UM_PER_M)


def mt_per_m_from_t_per_m(gradient):
    """Gradient from T/m (Camino) to mT/m."""
    return gradient * MT_PER_T
