"""Sine and cosine that numba compiles to vector instructions.

The C library computes one at a time. These differ from the true value by less than 2^-52, as a
momentum component needs; the relative error of a sine that is almost zero can be larger.

Source: fdlibm's argument reduction (e_rem_pio2.c) and polynomials (k_sin.c, k_cos.c), Copyright
(C) 1993 by Sun Microsystems, Inc.: "Permission to use, copy, modify, and distribute this software
is freely granted, provided that this notice is preserved."
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from analysis.kernels._compile import loop

ANGLE_MAX: Final = 1e5
"""Larger angles (in rad) need a longer argument reduction, and are left to the C library."""

_TWO_OVER_PI: Final = 0.6366197723675814
# pi / 2 in two parts; the first has 33 bits, so that its product with a small integer is exact.
_HALF_PI: Final = 1.57079632673412561417e00
_HALF_PI_REST: Final = 6.07710050650619224932e-11

_S1: Final = -1.66666666666666324348e-01
_S2: Final = 8.33333333332248946124e-03
_S3: Final = -1.98412698298579493134e-04
_S4: Final = 2.75573137070700676789e-06
_S5: Final = -2.50507602534068634195e-08
_S6: Final = 1.58969099521155010221e-10
_C1: Final = 4.16666666666666019037e-02
_C2: Final = -1.38888888888741095749e-03
_C3: Final = 2.48015872894767294178e-05
_C4: Final = -2.75573143513906633035e-07
_C5: Final = 2.08757232129817482790e-09
_C6: Final = -1.13596475577881948265e-11


@loop
def sine_cosine(angle) -> Any:  # type: ignore[no-untyped-def]
    """Sine and cosine of an angle in rad, abs(angle) <= ANGLE_MAX; NaN of NaN and infinity."""
    quarter = np.rint(angle * _TWO_OVER_PI)
    r = (angle - quarter * _HALF_PI) - quarter * _HALF_PI_REST
    z = r * r
    sine = r + r * z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6)))))
    cosine = 1.0 - (
        0.5 * z - z * z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6)))))
    )
    # Which of the four quarters; selections rather than branches, for vector instructions.
    turn = quarter - 4.0 * np.floor(quarter * 0.25)
    odd = (turn == 1.0) | (turn == 3.0)
    s = cosine if odd else sine
    c = sine if odd else cosine
    return (-s if turn >= 2.0 else s), (-c if (turn == 1.0) | (turn == 2.0) else c)
