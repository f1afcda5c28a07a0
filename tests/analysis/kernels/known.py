"""Answers that do not come from this project: events computed by hand, and other libraries.

The proofs show that the three implementations of a kernel are equal; this table shows that they
are right. KNOWN has events of every kernel, small enough for the arithmetic to stand beside them,
and INDEPENDENT the result of another library, or of a textbook formula, for many ordinary events.
test_kernels.py fails for a kernel without known events. It is long because it is one table, in
which each kernel has its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from tests.support.strategies import array_of, jagged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from analysis.kernels import Kernel

PI: Final = math.pi
INF: Final = math.inf
NAN: Final = math.nan
LN3: Final = math.log(3)
"""sinh(ln 3) = (3 - 1/3) / 2 = 4/3: an object of pt 3 has pz 4, and energy 5 if it is massless."""

ROUNDING: Final = 1e-14
"""Relative, of known numbers that a sine or a square root enters."""


def above(value: float) -> float:
    """The next number."""
    return math.nextafter(value, INF)


def below(value: float) -> float:
    """The number before."""
    return math.nextafter(value, -INF)


@dataclass(frozen=True)
class Known:
    """Events of one kernel, and its result on them.

    Attributes
    ----------
    inputs
        By the kernel's input: a list of events.
    want
        The result as lists; a tuple where the kernel gives several.
    options
        In the place of the registry's.
    rtol
        Relative tolerance: none where the arithmetic is exact.
    """

    inputs: Mapping[str, list[Any]]
    want: Any
    options: Mapping[str, Any] | None = None
    rtol: float = 0.0

    def arguments(self, kernel: Kernel) -> tuple[Any, ...]:
        """The inputs as arrays, in double precision."""
        return tuple(array_of(name, self.inputs[name]) for name in kernel.inputs)


def _objects(collection: str, fields: str, *events: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Columns of events that are written object by object."""
    return {
        f"{collection}_{field}": [[one[number] for one in event] for event in events]
        for number, field in enumerate(fields.split())
    }


def _cuts(
    collection: str,
    fields: str,
    passes: list[tuple[Any, ...]],
    fails: list[tuple[Any, ...]],
    **options: Any,
) -> Known:
    """One event: the objects that are kept, then those that are not; and an event without any."""
    inputs = _objects(collection, fields, [*passes, *fails], [])
    return Known(inputs, [[True] * len(passes) + [False] * len(fails), []], options or None)


def _answered(
    collection: str, fields: str, *events: tuple[list[tuple[Any, ...]], Any], **options: Any
) -> Known:
    """Events that are written object by object, each with its answer."""
    inputs = _objects(collection, fields, *(event for event, _ in events))
    return Known(inputs, [answer for _, answer in events], options or None)


def _sums(entries: Mapping[tuple[int, int], tuple[list[float], list[float]]]) -> Any:
    """Sums of weights and of squares of 3 categories x 27 bins, zero but in (category, bin)."""
    sums = np.zeros((2, 3, 27, 3))
    for (category, index), both in entries.items():
        sums[:, category, index] = both
    return sums.tolist()


# Objects at rest (pt = 0): their masses add up without rounding. At eta 0 and opposite phi two
# massless objects have the mass 2 sqrt(pt1 pt2).
_REST: Final = (0.0, 0.0, 0.0)

# Massless jets at eta 0 in steps of 90 degrees; then too few, and one that is not finite:
#   jets  energy  px  py   pt^2   mass^2 = energy^2 - pt^2
#   012     90    20  30   1300    6800
#   013     80    40  20   2000    4400
#   023     70    20 -10    500    4400
#   123     60   -20  20    800    2800
_CROSS: Final = [(40.0, 0, 0, 0), (30.0, 0, PI / 2, 0), (20.0, 0, PI, 0), (10.0, 0, -PI / 2, 0)]
_HOLE: Final = [(NAN, 0, 0, 0), *_CROSS]

# px = 3 (1 + 1 + 0), py = 3; pz = 4 - 4 + 0; energy = 5 + 5 + sqrt(3^2 + 4^2): 15^2 - 36 - 9 = 180
_SPATIAL: Final = [(3.0, LN3, 0, 0), (3.0, -LN3, 0, 0), (3.0, 0, PI / 2, 4.0)]

KNOWN: Final[dict[str, tuple[Known, ...]]] = {
    "electrons": (
        # Every cut from both sides: pt > 30, abs(eta) < 2.1, cutBased == 4, sip3d < 4.
        _cuts(
            "Electron",
            "pt eta cutBased sip3d",
            [
                (above(30.0), 2.0, 4, 0.0),
                (50.0, below(2.1), 4, below(4.0)),
                (50.0, -below(2.1), 4, -9.0),
                (INF, 0.0, 4, -INF),
            ],
            [
                *((pt, 0.0, 4, 1.0) for pt in (30.0, 5.0, -50.0, NAN)),
                *((50.0, eta, 4, 1.0) for eta in (2.1, -2.1, 2.5, -2.5, INF, NAN)),
                *((50.0, 0.0, cut, 1.0) for cut in (3, 5, 0, 2)),
                *((50.0, 0.0, 4, sip) for sip in (4.0, 9.0, NAN)),
            ],
        ),
        _cuts(
            "Electron",
            "pt eta cutBased sip3d",
            [(21.0, 1.4, 3, 2.4)],
            [(20.0, 0.0, 3, 0.0), (50.0, 1.5, 3, 0.0), (50.0, 0.0, 4, 0.0), (50.0, 0.0, 3, 2.5)],
            pt_min=20.0,
            eta_max=1.5,
            tight=3,
            sip3d_max=2.5,
        ),
    ),
    "muons": (
        # pt > 30, abs(eta) < 2.1, tightId, sip3d < 4, pfRelIso04_all < 0.15.
        _cuts(
            "Muon",
            "pt eta tightId sip3d pfRelIso04_all",
            [
                (above(30.0), 2.0, True, 0.0, 0.1),
                (50.0, below(2.1), True, below(4.0), below(0.15)),
                (50.0, -below(2.1), True, -9.0, 0.0),
            ],
            [
                *((pt, 0.0, True, 1.0, 0.1) for pt in (30.0, 5.0, -50.0, NAN)),
                *((50.0, eta, True, 1.0, 0.1) for eta in (2.1, -2.1, 2.5, -2.5, INF, NAN)),
                (50.0, 0.0, False, 1.0, 0.1),
                *((50.0, 0.0, True, sip, 0.1) for sip in (4.0, 9.0, NAN)),
                *((50.0, 0.0, True, 1.0, iso) for iso in (0.15, 2.0, NAN)),
            ],
        ),
        _cuts(
            "Muon",
            "pt eta tightId sip3d pfRelIso04_all",
            [(21.0, 1.4, True, 2.4, 0.2)],
            [
                *((20.0, 0.0, True, 0.0, 0.0), (50.0, 1.5, True, 0.0, 0.0)),
                *((50.0, 0.0, True, 2.5, 0.0), (50.0, 0.0, True, 0.0, 0.3)),
            ],
            pt_min=20.0,
            eta_max=1.5,
            sip3d_max=2.5,
            isolation_max=0.3,
        ),
    ),
    "jets": (
        # pt > 30, abs(eta) < 2.4, bit 4 of jetId: 4, 5, 6 and 12 have it, 0 to 3 and 8 do not.
        _cuts(
            "Jet",
            "pt eta jetId",
            [
                (above(30.0), 2.3, 6),
                (50.0, below(2.4), 4),
                (50.0, -below(2.4), 5),
                (INF, 0.0, 12),
                (50.0, 0.0, -1),
            ],
            [
                *((pt, 0.0, 6) for pt in (30.0, 5.0, -50.0, NAN)),
                *((50.0, eta, 6) for eta in (2.4, -2.4, 2.5, -2.5, INF, NAN)),
                *((50.0, 0.0, one) for one in (0, 1, 2, 3, 8)),
            ],
        ),
        _cuts(
            "Jet",
            "pt eta jetId",
            [(21.0, 1.4, 2), (21.0, 1.4, 7)],
            [(20.0, 0.0, 2), (50.0, 1.5, 2), (50.0, 0.0, 4), (50.0, 0.0, 1)],
            pt_min=20.0,
            eta_max=1.5,
            id_bit=2,
        ),
    ),
    "leptons": (
        # One electron is 1, one muon is 2, none or several of either are 0.
        Known(
            {
                "Electron_mask": [
                    *([], [True], [False, True], [True], [True, True], [False], []),
                    *([True] * 3, [True, True], [], [True, False, False]),
                ],
                "Muon_mask": [
                    *([True], [], [False], [True], [], [False, False], []),
                    *([], [True], [True] * 3, [False, False]),
                ],
            },
            [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
    ),
    "regions": (
        # 0 below four selected jets, then 1, 2 or 3 for none, one or more of them with btag > 0.5.
        Known(
            {
                "Jet_mask": [
                    *([], [1, 1, 1], [1] * 4, [1] * 4, [1] * 4, [1, 1, 1, 0], [1] * 5),
                    *([1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 1]),
                ],
                "Jet_btagCSVV2": [
                    [],
                    [0.9, 0.9, 0.9],
                    [0.5, 0.1, NAN, -10.0],
                    [0.1, above(0.5), 0.5, 0.5],
                    [0.6, 0.7, 0.1, 0.1],
                    [0.9, 0.9, 0.9, 0.9],
                    [0.9, 0.9, 0.9, 0.1, 0.1],
                    [0.1, 0.1, 0.1, 0.1, 0.9, 0.9],
                    [0.9, 0.9, 0.1, 0.1, 0.1],
                ],
            },
            [0, 0, 1, 2, 3, 0, 3, 1, 2],
        ),
        Known(
            {
                "Jet_mask": [[1], [1, 1], [1, 1], [1, 0], [1, 1, 1]],
                "Jet_btagCSVV2": [[0.9], [0.7, 0.8], [0.7, 0.9], [0.9, 0.9], [0.9, 0.9, 0.9]],
            },
            [0, 1, 2, 0, 3],
            options={"jets_min": 2, "btag_min": 0.8},
        ),
    ),
    "acceptance": (
        # The registry's pt > 30 and abs(eta) < 2.4; then no cuts, which infinity does not pass.
        _cuts(
            "Jet",
            "pt eta",
            [(above(30.0), 0.0), (INF, below(2.4)), (50.0, -below(2.4))],
            [(30.0, 0.0), (NAN, 0.0), *((50.0, eta) for eta in (2.4, -2.4, -3.0, NAN))],
        ),
        Known(
            _objects("Jet", "pt eta", [(-1e300, 1e300), (INF, 0), (-INF, 0), (0, -INF), (0, INF)]),
            [[True, True, False, False, False]],
            options={},
        ),
    ),
    "count": (
        Known({"Jet_mask": [[1, 0], [], [0, 1, 1], [1], [0, 0], [1] * 5]}, [1, 0, 2, 1, 0, 5]),
    ),
    "skim": (
        Known(
            {
                "Jet_pt": [[9.0], [1.0, 2.0], [], [3.0, 4.0, 5.0], [6.0], [7.0, 8.0]],
                "one_lepton": [False, True, True, True, False, True],
            },
            [[1.0, 2.0], [], [3.0, 4.0, 5.0], [7.0, 8.0]],
        ),
    ),
    "joined": (
        Known(
            {
                "Electron_pt": [[9.0], [1.0, 2.0], [], [3.0], [], [7.0]],
                "Muon_pt": [[8.0], [0.5], [4.0, 5.0], [], [], [6.0]],
                "one_lepton": [False, True, True, True, True, False],
            },
            [[1.0, 2.0, 0.5], [4.0, 5.0], [3.0], []],
        ),
    ),
    "selected": (
        Known(
            {
                "Jet_pt": [[9.0], [1.0, 2.0], [], [3.0, 4.0, 5.0], [6.0], [7.0, 8.0]],
                "Jet_mask": [[1], [1, 0], [], [0, 1, 1], [1], [0, 0]],
                "one_lepton": [False, True, True, True, False, True],
            },
            [[1.0], [], [4.0, 5.0], []],
        ),
    ),
    "cleaning": (
        # dR < 0.4 is close: 0.3^2 + 0.2^2 = 0.13 and 0.3^2 + 0.3^2 = 0.18 about 0.16. Across
        # phi = pi: from pi - 0.1 to -pi + 0.29 it is 0.39, to -pi + 0.31 it is 0.41. At exactly
        # 0.4 (of eta alone) and with NaN nothing is close.
        Known(
            {
                "Jet_eta": [
                    [1.0, 1.0],
                    [0.0],
                    [0.0, 0.0],
                    [0.4, NAN, below(0.4)],
                    [0.0],
                    [0.0, 2.0, -2.0],
                ],
                "Jet_phi": [
                    [0.2, 0.3],
                    [PI - 0.1],
                    [PI - 0.1, -PI + 0.1],
                    [0.0] * 3,
                    [0.0],
                    [0.0, 1.0, -3.0],
                ],
                "Lepton_eta": [[1.3], [0.0], [0.0], [0.0], [], [5.0, -2.0, 2.1]],
                "Lepton_phi": [[0.0], [-PI + 0.29], [-PI + 0.31], [0.0], [], [0.0, -3.3, 1.3]],
            },
            [
                [False, True],
                [False],
                [True, False],
                [True, True, False],
                [True],
                [True, False, False],
            ],
        ),
        # 4^2 + 3^2 = 5^2: not closer than 5, but closer than 5.1.
        Known(
            {
                "Jet_eta": [[4.0]],
                "Jet_phi": [[1.5]],
                "Lepton_eta": [[0.0]],
                "Lepton_phi": [[-1.5]],
            },
            [[True]],
            options={"dr_min": 5.0},
        ),
        Known(
            {
                "Jet_eta": [[4.0]],
                "Jet_phi": [[1.5]],
                "Lepton_eta": [[0.0]],
                "Lepton_phi": [[-1.5]],
            },
            [[False]],
            options={"dr_min": 5.1},
        ),
    ),
    "pair_mass": (
        # By energy^2 - momentum^2; at rest masses add up, and two that are one thing have none.
        Known(
            _objects(
                "Muon",
                "pt eta phi mass",
                [(45.0, 1.0, 0, 0), (45.0, -1.0, PI, 0)],
                # energies 30 and 40 at 90 degrees: 70^2 - 50^2 = 2400; 3^2 + 4^2 = 5^2.
                [(30.0, 0, 0, 0), (40.0, 0, PI / 2, 0), (3.0, 0, PI, 4.0)],
                _SPATIAL,
                [(*_REST, 1.0), (*_REST, 2.5), (*_REST, 1.0), (NAN, 0, 0, 0)],
                [(7.0, 0, 0, 0), (7.0, 0, 0, 0)],
                [],
                [(5.0, 0, 0, 0)],
                [(1e200, 0, 0, 0), (INF, 0, 0, 0), (1.0, 0, 0, -INF), (1.0, NAN, 0, 0)],
            ),
            [
                [90 * math.cosh(1.0)],
                # 30 + 5 with px = 27, 40 + 5 with px = -3 and py = 40
                [math.sqrt(2400), math.sqrt(35**2 - 27**2), math.sqrt(45**2 - 9 - 1600)],
                # 10^2 - 6^2; 10^2 - 3^2 - 3^2 - 4^2 twice
                [8.0, math.sqrt(66), math.sqrt(66)],
                [3.5, 2.0, NAN, 3.5, NAN, NAN],
                [0.0],
                [],
                [],
                [NAN] * 6,
            ],
            rtol=ROUNDING,
        ),
    ),
    "charged_pair": (
        # 60 < mass < 120, at rest without any rounding.
        _answered(
            "Muon",
            "pt eta phi mass charge",
            ([(*_REST, 30.0, 1), (*_REST, 30.0, -1)], False),
            ([(*_REST, 30.0, 1), (*_REST, 30.0001, -1)], True),
            ([(*_REST, 60.0, -1), (*_REST, 60.0, 1)], False),
            ([(*_REST, 60.0, -1), (*_REST, 59.9999, 1)], True),
            ([(*_REST, 60.4, -1), (*_REST, 60.4, 1)], False),
            # of one charge; neutral; of charge 2
            ([(*_REST, 45.0, 1), (*_REST, 45.0, 1)], False),
            ([(*_REST, 45.0, 1), (*_REST, 45.0, 0)], False),
            ([(*_REST, 45.0, -1), (*_REST, 45.0, 0)], False),
            ([(*_REST, 45.0, 2), (*_REST, 45.0, -1)], True),
            # 45 + 20 alone; 1 + 80 alone
            ([(*_REST, m, q) for m, q in ((45.0, 1), (45.0, 1), (200.0, -1), (20.0, -1))], True),
            ([(*_REST, m, q) for m, q in ((1.0, 1), (1.0, -1), (80.0, -1))], True),
            # 2 x 50, of eta 0 and opposite phi; nothing at equal phi
            ([(50.0, 0, 0, 0, 1), (50.0, 0, PI, 0, -1)], True),
            ([(50.0, 0, 1, 0, 1), (50.0, 0, 1, 0, -1)], False),
            ([(NAN, 0, 0, 90.0, 1), (*_REST, 90.0, -1)], False),
            ([(*_REST, 90.0, 1)], False),
            ([], False),
        ),
        _answered(
            "Muon",
            "pt eta phi mass charge",
            ([(*_REST, 1.0, 1), (*_REST, 2.0, -1)], True),
            ([(*_REST, 1.0, 1), (*_REST, 1.0, -1)], False),
            ([(*_REST, 1.0, 1), (*_REST, 3.0, -1)], False),
            low=2.0,
            high=4.0,
        ),
    ),
    "z_pair": (
        # Same flavour, opposite charge, mass closest to 91.2 of events with three leptons.
        _answered(
            "Lepton",
            "pt eta phi mass charge flavour",
            # 45.6 + 45.6 = 91.2 twice: the first of equals; and with another lepton before it
            ([(*_REST, 45.6, q, 11) for q in (1, -1, -1)], [0, 1]),
            ([(*_REST, 9.0, 1, 11), *((*_REST, 45.6, q, 13) for q in (1, -1, 1))], [1, 2]),
            # 50 + 41.2 is nearer than 50 + 42.5, which is nearer to 92.1 (1 % above)
            ([(*_REST, m, q, 11) for m, q in ((50.0, 1), (42.5, -1), (41.2, -1))], [0, 2]),
            # two leptons are too few; of another flavour; of one charge; neutral; of charge 2
            ([(*_REST, 45.6, q, 11) for q in (1, -1)], [-1, -1]),
            ([(*_REST, 45.6, q, f) for q, f in ((1, 11), (-1, 13), (1, 11))], [-1, -1]),
            ([(*_REST, 45.6, q, 11) for q in (1, 1, 1)], [-1, -1]),
            ([(*_REST, 45.6, q, 11) for q in (1, 0, 0)], [-1, -1]),
            ([(*_REST, 45.6, q, 11) for q in (-1, 0, 0)], [-1, -1]),
            ([(*_REST, m, q, 11) for m, q in ((45.6, 2), (45.6, 1), (20.0, -1))], [0, 2]),
            # 90 of the second pair is nearer to 91.2 than 100 and 2 sqrt(50 x 45) = 94.9
            (
                [
                    *((50.0, 0, 0, 0, 1, 11), (50.0, 0, PI, 0, -1, 11)),
                    *((45.0, 0, 0, 0, 1, 11), (45.0, 0, PI, 0, -1, 11)),
                ],
                [2, 3],
            ),
            ([(NAN, 0, 0, 0, 1, 11), (*_REST, 1.0, -1, 11), (*_REST, 2.0, 1, 11)], [1, 2]),
            ([], [-1, -1]),
        ),
        # 44 + 45 and 46 + 45 are 1 from 90, from both sides: the first of equals. Two are enough.
        _answered(
            "Lepton",
            "pt eta phi mass charge flavour",
            ([(*_REST, m, q, 11) for m, q in ((44.0, 1), (45.0, -1), (46.0, 1))], [0, 1]),
            ([(*_REST, m, q, 11) for m, q in ((46.0, 1), (45.0, -1))], [0, 1]),
            ([(*_REST, 46.0, 1, 11)], [-1, -1]),
            target=90.0,
            leptons_min=2,
        ),
    ),
    "trijet_mass": (
        # At rest: 172 and 173 are equally far from 172.5, the first of equals; 172.5 itself is
        # nearest, but 174.2 (1 % above) is nearer to 174.
        Known(
            _objects(
                "Jet",
                "pt eta phi mass",
                [(*_REST, mass) for mass in (100.0, 70.0, 2.0, 3.0)],
                [(*_REST, mass) for mass in (100.0, 70.0, 4.0, 2.5)],
                [(*_REST, mass) for mass in (57.5, 57.5, 57.5, 57.5, 57.5)],
                [(*_REST, mass) for mass in (1.0, 100.0, 70.0, 2.5)],
                [(*_REST, 100.0), (*_REST, 70.0)],
                [],
            ),
            (
                [[0, 1, 2], [0, 1, 3], [0, 1, 2], [1, 2, 3], [-1] * 3, [-1] * 3],
                [0.0] * 4 + [NAN] * 2,
            ),
        ),
        Known(
            _objects("Jet", "pt eta phi mass", _CROSS, _CROSS[:2], _HOLE, [*_CROSS[:2], _HOLE[0]]),
            (
                [[1, 2, 3], [-1] * 3, [2, 3, 4], [-1] * 3],
                [math.sqrt(800), NAN, math.sqrt(800), NAN],
            ),
            options={"target": math.sqrt(2800) + 1},
            rtol=ROUNDING,
        ),
        # Closer to sqrt(6800) than to sqrt(4400); of the squares it is the other way round.
        Known(
            _objects("Jet", "pt eta phi mass", _CROSS, _SPATIAL),
            ([[0, 1, 2], [0, 1, 2]], [math.sqrt(1300), math.sqrt(45)]),
            options={"target": 74.6},
            rtol=ROUNDING,
        ),
    ),
    "trijet_pt": (
        # The tagged jet decides: all, the first, the third, none (0.5 is no tag), and just one.
        Known(
            _objects(
                "Jet",
                "pt eta phi mass btagCSVV2",
                *(
                    [(*jet, tag) for jet, tag in zip(jets, tags, strict=True)]
                    for jets, tags in (
                        (_CROSS, (0.9, 0.0, 0.0, 0.0)),
                        (_CROSS, (0.0, 0.0, 0.6, 0.0)),
                        (_CROSS, (0.0, above(0.5), 0.0, NAN)),
                        (_CROSS, (0.5, 0.5, 0.5, 0.5)),
                        (_CROSS, (0.0, 0.0, 0.0, 1.0)),
                        (_CROSS[:2], (1.0, 1.0)),
                        (_HOLE, (1.0, 0.0, 0.0, 0.6, 0.0)),
                        (_SPATIAL, (0.0, 0.0, 1.0)),
                        (_SPATIAL, (1.0, 0.0, 0.0)),
                        (_SPATIAL, (0.0, 1.0, 0.0)),
                        # Equal, and at rest with a pt of 0: the first that has a tagged jet.
                        ([(3.0, 0, 0, 4.0)] * 4, (1.0, 1.0, 1.0, 1.0)),
                        ([(3.0, 0, 0, 4.0)] * 4, (0.0, 0.0, 0.0, 1.0)),
                        ([(*_REST, mass) for mass in (1.0, 2.0, 4.0)], (0.0, 0.0, 1.0)),
                    )
                ),
            ),
            (
                [[0, 1, 3], [0, 1, 2], [0, 1, 3], [-1] * 3, [0, 1, 3], [-1] * 3, [1, 2, 3]]
                + [[0, 1, 2]] * 4
                + [[0, 1, 3], [0, 1, 2]],
                [
                    math.sqrt(4400),
                    math.sqrt(6800),
                    math.sqrt(4400),
                    NAN,
                    math.sqrt(4400),
                    NAN,
                    math.sqrt(6800),
                    *([math.sqrt(180)] * 3),
                    12.0,
                    12.0,
                    7.0,
                ],
            ),
            rtol=ROUNDING,
        ),
        Known(
            _objects("Jet", "pt eta phi mass btagCSVV2", [(*jet, 0.7) for jet in _CROSS])
            | {"Jet_btagCSVV2": [[0.8, 0.7, 0.8, above(0.8)]]},
            ([[0, 1, 3]], [math.sqrt(4400)]),
            options={"btag_min": 0.8},
            rtol=ROUNDING,
        ),
    ),
    "largest": (
        Known(
            {
                "Jet_btagCSVV2": [
                    *([0.1, 0.7, 0.3], [-10.0, 0.9, -1.0, -2.0], [], [0.5, NAN, 0.2, 0.9]),
                    *([0.5, NAN, 0.2, 0.9], [1.0, 0.9, 0.8], [-INF, -INF, -INF, 1.0]),
                    [0.5, 0.6, 0.7],
                ],
                "Jet_trijet": [
                    *([0, 1, 2], [0, 2, 3], [-1, -1, -1], [0, 1, 3]),
                    *([0, 2, 3], [0, 1, 2], [0, 1, 2]),
                    [-1, 0, 1],  # the first says that nothing is picked
                ],
            },
            [0.7, -1.0, NAN, NAN, 0.9, 1.0, -INF, NAN],
        ),
    ),
    "transverse_mass": (
        # 2 sqrt(pt MET) abs(sin(dphi / 2)) of the leading lepton outside the pair.
        Known(
            _objects(
                "Lepton",
                "pt phi",
                [(30.0, 0.0), (20.0, 0.0), (50.0, 0.0)],  # 2 x 50 x sin(pi / 2)
                [(80.0, 0.0), (30.0, 1.0), (90.0, 2.0)],  # 2 x sqrt(80 x 20)
                [(50.0, 0.0), (60.0, 1.0), (20.0, 1.0)],  # 2 x 50 x sin(pi / 6)
                [(40.0, PI), (10.0, 0.0), (10.0, 0.0), (40.0, 0.0)],  # the first of equals: 80
                [(NAN, 0.0), (10.0, 0.0), (10.0, 0.0), (30.0, 0.0)],  # 2 x 30
                [(50.0, 0.0), (40.0, 0.0), (30.0, 0.0)],  # no pair
                [(50.0, 0.0), (40.0, 0.0)],  # none outside
                [(50.0, 0.0), (40.0, 0.0), (30.0, 0.0)],  # no missing ET
                [(50.0, 0.0), (40.0, 0.0), (-1.0, 0.0)],  # the square root of -50
                [(50.0, 3.0), (9.0, 0.0), (9.0, 0.0)],  # 2 x 50 x sin(3)
                [(50.0, 0.0), (9.0, 0.0), (9.0, 0.0)],  # no direction
                [(5.0, 1.0), (30.0, 0.0), (60.0, 0.0), (4.0, 0.0)],  # 2 x sqrt(60 x 15)
            )
            | {
                "Lepton_pair": [
                    [0, 1],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [-1, -1],
                    [0, 1],
                    [0, 1],
                    [0, 1],
                    [1, 2],
                    [1, 2],
                    [0, 1],
                ],
                "MET_pt": [50.0, 20.0, 50.0, 40.0, 30.0, 9.0, 9.0, 0.0, 50.0, 50.0, 9.0, 15.0],
                "MET_phi": [PI, PI, PI / 3, 0.0, PI, 1.0, 1.0, 1.0, 1.0, -3.0, INF, -PI],
            },
            [100.0, 80.0, 50.0, 80.0, 60.0, NAN, NAN, 0.0, NAN, 14.112000805986721, NAN, 60.0],
            rtol=ROUNDING,
        ),
    ),
    "ht": (
        Known(
            {"Jet_pt": [[], [100.0], [50.0, 25.0, 10.0, 200.0, 400.0], [NAN, 1.0], [1.0, INF]]},
            [0.0, 100.0, 685.0, NAN, INF],
        ),
    ),
    "jet_scale": (
        # 3 % of 100, 50, 25, 200 are 3, 1.5, 0.75 and 6.
        Known(
            {"Jet_pt": [[], [100.0], [50.0, 25.0, 200.0, -100.0, INF]]},
            [[], [103.0], [51.5, 25.75, 206.0, -103.0, INF]],
        ),
        Known({"Jet_pt": [[3.0, 5.0]]}, [[6.0, 10.0]], options={"scale": 2.0}),
    ),
    "jet_resolution": (
        # No resolution changes nothing; the numbers drawn are those of INDEPENDENT.
        Known(
            {
                "run": [1, 2, 3],
                "luminosityBlock": [1, 1, 1],
                "event": [1, 2, 3],
                "Jet_pt": [[30.0, 40.0], [], [50.0]],
            },
            [[30.0, 40.0], [], [50.0]],
            options={"resolution": 0.0},
        ),
    ),
    "btag_weights": (
        # 7.5 % per 50 GeV of the first four jets, up and down: 100, then 50, 25, 10 and 200 GeV.
        Known(
            {"Jet_pt": [[], [100.0], [50.0, 25.0, 10.0, 200.0, 400.0]]},
            [
                [1.0] * 8,
                [1.15, 0.85] + [1.0] * 6,
                [1.075, 0.925, 1.0375, 0.9625, 1.015, 0.985, 1.3, 0.7],
            ],
            rtol=1e-15,
        ),
        Known({"Jet_pt": [[100.0, 25.0]]}, [[2.0, 0.0, 1.25, 0.75, *[1.0] * 4]], {"slope": 0.5}),
    ),
    "histogram": (
        # 25 bins of 20 GeV from 50: closed below and open above, NaN and 550 in the overflow.
        Known(
            {
                "observable": [50.0, below(50.0), -INF, 69.9, 70.0, 549.9, 550.0, INF, NAN, 300.0],
                "category": [0, 0, 0, 0, 0, 1, 1, 1, 1, 2],
                "weights": [[1.0, 2.0, 0.5]] * 9 + [[-3.0, 0.0, NAN]],
            },
            _sums(
                {
                    (0, 0): ([2.0, 4.0, 1.0], [2.0, 8.0, 0.5]),
                    (0, 1): ([2.0, 4.0, 1.0], [2.0, 8.0, 0.5]),
                    (0, 2): ([1.0, 2.0, 0.5], [1.0, 4.0, 0.25]),
                    (1, 25): ([1.0, 2.0, 0.5], [1.0, 4.0, 0.25]),
                    (1, 26): ([3.0, 6.0, 1.5], [3.0, 12.0, 0.75]),
                    (2, 13): ([-3.0, 0.0, NAN], [9.0, 0.0, NAN]),
                }
            ),
        ),
        # Without options: one category. With others: 2 bins of 0.5 from 0.
        Known(
            {
                "observable": [0.0, 0.5, below(0.5), 1.0],
                "category": [0, 0, 0, 0],
                "weights": [[1.0, 2.0, 4.0]] * 4,
            },
            [
                [[[0.0] * 3, [2.0, 4.0, 8.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]],
                [[[0.0] * 3, [2.0, 8.0, 32.0], [1.0, 4.0, 16.0], [1.0, 4.0, 16.0]]],
            ],
            options={"bins": 2, "low": 0.0, "high": 1.0},
        ),
    ),
    "occupancy": (
        # The rule of the histogram: 4 bins of 10 from 20, underflow first; what is left out is not
        # there.
        Known(
            {
                "Jet_pt": [
                    [20.0, below(20.0), -INF],
                    [],
                    [29.9, 30.0, 30.0],
                    [59.9, 60.0, 70.0, INF, NAN],
                ],
                "Jet_mask": [[1, 1, 1], [], [1, 1, 0], [1, 1, 1, 1, 1]],
            },
            [2, 2, 1, 0, 1, 4],
            options={"bins": 4, "low": 20.0, "high": 60.0},
        ),
        # Without options: 100 bins of 2 from 0.
        Known(
            {"Jet_pt": [[1.9, 2.0, 200.0], [199.0, -1.0]], "Jet_mask": [[1, 1, 1], [1, 1]]},
            [1, 1, 1, *[0] * 97, 1, 1],
            options={},
        ),
    ),
}
"""By kernel: answers computed by hand, the arithmetic beside them."""


def _vectors(*columns: ak.Array) -> Any:
    import vector

    names = ("pt", "eta", "phi", "mass")
    return vector.zip(dict(zip(names, columns, strict=True)))


def _pair_mass(*kinematics: ak.Array) -> Any:
    first, second = ak.unzip(ak.combinations(_vectors(*kinematics), 2))
    return (first + second).mass


def _charged_pair(*columns: ak.Array) -> Any:
    *kinematics, charge = columns
    first, second = ak.unzip(ak.combinations(charge, 2))
    masses = _pair_mass(*kinematics)
    return ak.to_numpy(ak.any((first == -second) & (masses > 60) & (masses < 120), axis=1))


def _first_of(picked: ak.Array, *columns: ak.Array) -> tuple[Any, ...]:
    """Columns of the combinations at ak.argmin's or ak.argmax's indices."""
    return tuple(ak.firsts(column[picked]) for column in columns)


def _trijets(*kinematics: ak.Array) -> tuple[ak.Array, Any]:
    jets = ak.argcombinations(kinematics[0], 3)
    first, second, third = ak.unzip(ak.combinations(_vectors(*kinematics), 3))
    return jets, first + second + third


def _indices(jets: ak.Array) -> Any:
    fields = [ak.to_numpy(ak.fill_none(one, -1)) for one in ak.unzip(jets)]
    return np.stack(fields, axis=1)


def _or_nan(values: Any) -> Any:
    return ak.to_numpy(ak.fill_none(values, NAN))


def _trijet_mass(*kinematics: ak.Array) -> Any:
    jets, systems = _trijets(*kinematics)
    nearest = ak.argmin(abs(systems.mass - 172.5), axis=1, keepdims=True)
    chosen, pt = _first_of(nearest, jets, systems.pt)
    return _indices(chosen), _or_nan(pt)


def _trijet_pt(*columns: ak.Array) -> Any:
    *kinematics, btag = columns
    jets, systems = _trijets(*kinematics)
    tagged = ak.max(ak.concatenate([btag[one][..., None] for one in ak.unzip(jets)], -1), -1) > 0.5
    hardest = ak.argmax(systems.pt[tagged], axis=1, keepdims=True)
    chosen, mass = _first_of(hardest, jets[tagged], systems.mass[tagged])
    return _indices(chosen), _or_nan(mass)


def _z_pair(*columns: ak.Array) -> Any:
    *kinematics, charge, flavour = columns
    leptons = ak.argcombinations(charge, 2)
    i, j = ak.unzip(leptons)
    good = (charge[i] != charge[j]) & (flavour[i] == flavour[j]) & (ak.num(charge) > 2)
    distance = abs(_pair_mass(*kinematics) - 91.2)[good]
    (chosen,) = _first_of(ak.argmin(distance, axis=1, keepdims=True), leptons[good])
    return _indices(chosen)


def _cleaning(*columns: ak.Array) -> Any:
    import vector

    jets, leptons = (
        vector.zip({"rho": ak.ones_like(eta), "eta": eta, "phi": phi})
        for eta, phi in (columns[:2], columns[2:])
    )
    jet, lepton = ak.unzip(ak.cartesian([jets, leptons], nested=True))
    return ~ak.any(jet.deltaR(lepton) < 0.4, axis=-1)


def _transverse_mass(pt: Any, phi: Any, pair: Any, met: Any, met_phi: Any) -> Any:
    """With 1 - cos(dphi), event by event."""
    masses = []
    for pts, phis, pairs, one_met, one_phi in zip(
        *(column.tolist() for column in (pt, phi, pair, met, met_phi)), strict=True
    ):
        outside = [i for i in range(len(pts)) if i not in pairs] if pairs[0] >= 0 else []
        lead = max(outside, key=pts.__getitem__, default=None)
        masses.append(
            NAN
            if lead is None
            else math.sqrt(2 * pts[lead] * one_met * (1 - math.cos(phis[lead] - one_phi)))
        )
    return np.array(masses)


def _jet_resolution(run: Any, block: Any, event: Any, pt: Any) -> Any:
    """Philox4x32-10 as its authors' paper gives it, and the quantiles of Python's library."""
    columns = [column.tolist() for column in (run, block, event, pt)]
    smeared = []
    for one_run, one_block, one_event, pts in zip(*columns, strict=True):
        row = []
        for number, one in enumerate(pts):
            words = [one_event % 2**32, one_event // 2**32, one_block, number]
            low_key, high_key = one_run, int.from_bytes(b"JER", "big")
            for _ in range(10):
                high0, low0 = divmod(words[0] * 0xD2511F53, 2**32)
                high1, low1 = divmod(words[2] * 0xCD9E8D57, 2**32)
                words = [high1 ^ words[1] ^ low_key, low1, high0 ^ words[3] ^ high_key, low0]
                low_key = (low_key + 0x9E3779B9) % 2**32
                high_key = (high_key + 0xBB67AE85) % 2**32
            uniform = (words[0] * 2**20 + words[1] // 2**12 + 0.5) / 2**52
            row.append(one * NormalDist(1.0, 0.05).inv_cdf(uniform))
        smeared.append(row)
    return jagged(smeared, np.float64)


def _occupancy(values: ak.Array, keep: ak.Array) -> Any:
    import hist

    filled = hist.Hist(hist.axis.Regular(100, 0.0, 200.0)).fill(ak.flatten(values[keep != 0]))
    return filled.values(flow=True).astype(np.int64)


def _histogram(values: Any, category: Any, weights: Any) -> Any:
    import hist

    sums = []
    for weight in weights.T:
        histogram = hist.Hist(
            hist.axis.Integer(0, 3, flow=False),
            hist.axis.Regular(25, 50.0, 550.0),
            storage=hist.storage.Weight(),
        )
        histogram.fill(category, values, weight=weight)
        view: Any = histogram.view(flow=True)
        sums.append(np.stack([view.value, view.variance]))
    return np.stack(sums, axis=-1)


INDEPENDENT: Final[dict[str, Callable[..., Any]]] = {
    "pair_mass": _pair_mass,
    "charged_pair": _charged_pair,
    "trijet_mass": _trijet_mass,
    "trijet_pt": _trijet_pt,
    "z_pair": _z_pair,
    "cleaning": _cleaning,
    "transverse_mass": _transverse_mass,
    "jet_resolution": _jet_resolution,
    "histogram": _histogram,
    "occupancy": _occupancy,
}
"""By kernel: the result by vector, hist, Python's library or another formula."""
