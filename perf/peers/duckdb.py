"""DuckDB: SQL on Parquet, one thread.

Lists are filtered and summed in place (``list_filter``, lambdas); pairs come of a join of objects
with themselves, triplets of a join of events with a table of index triplets, which is faster than
joining three times. What a user must know, and this does:

- NaN is larger than everything, so that ``NaN > 30`` is true: cuts from below exclude it.
- ``0.15::FLOAT < 0.15`` compares in single precision: columns are cast first.
- The sum of an empty list is NULL.
- It believes the statistics of Parquet, which leave NaN out: where all numbers of a column are below 1,
  ``value < 1`` is taken to be true of NaN as well. ``isnan`` is asked first.

Kinematics are taken to be finite in queries 5, 6 and 8 and in the trijets of ttbar, and of equally
good combinations any may be chosen.
"""

from __future__ import annotations

from typing import Final

import duckdb

from perf.peers.query import CHANNELS, REGIONS, TTBAR, Query

MOST_JETS: Final = 64
"""Of an event, in the table of triplets; more is an error."""

_connection: Final = duckdb.connect()
_connection.execute(
    f"""
    SET threads = 1;
    SET enable_progress_bar = false;
    SET preserve_insertion_order = false;
    CREATE MACRO above(value, least) AS value > least AND NOT isnan(value);
    CREATE MACRO px(pt, phi) AS pt::DOUBLE * cos(phi::DOUBLE);
    CREATE MACRO py(pt, phi) AS pt::DOUBLE * sin(phi::DOUBLE);
    CREATE MACRO pz(pt, eta) AS pt::DOUBLE * sinh(eta::DOUBLE);
    CREATE MACRO energy(pt, eta, mass) AS
        sqrt(pt::DOUBLE * pt::DOUBLE + pz(pt, eta) * pz(pt, eta) + mass::DOUBLE * mass::DOUBLE);
    CREATE MACRO invariant_mass(x, y, z, e) AS sqrt(greatest(0, e * e - (x * x + y * y + z * z)));
    CREATE MACRO distance(a, b) AS
        CASE WHEN abs(a - b) > pi() THEN 2 * pi() - abs(a - b) ELSE abs(a - b) END;
    CREATE TABLE triplets AS
        SELECT n.range AS n, i.range AS i, j.range AS j, k.range AS k
        FROM range(3, {MOST_JETS + 1}) n, range(1, {MOST_JETS + 1}) i, range(1, {MOST_JETS + 1}) j,
             range(1, {MOST_JETS + 1}) k
        WHERE i.range < j.range AND j.range < k.range AND k.range <= n.range;
    """
)


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a Parquet file."""
    _connection.execute(
        f"""
        CREATE OR REPLACE TEMP VIEW events AS
        SELECT file_row_number AS entry, * EXCLUDE (file_row_number)
        FROM read_parquet('{path}', file_row_number = true)
        """
    )
    select = (
        _TTBAR if query.name == TTBAR else f"SELECT 0 AS histogram, * FROM ({_ADL[query.name]})"
    )
    rows = _connection.execute(
        f"""
        SELECT histogram,
               CASE WHEN isnan(value) THEN {query.bins + 1}
                    WHEN value < {query.low} THEN 0
                    WHEN value < {query.high} THEN
                        1 + floor((value - {query.low}) / {query.high - query.low} * {query.bins})
                    ELSE {query.bins + 1} END::INT AS bin,
               count(*)
        FROM (SELECT histogram, value::DOUBLE AS value FROM ({select}))
        GROUP BY ALL
        """
    ).fetchall()
    counts = [0.0] * (query.histograms * query.size)
    for histogram, index, number in rows:
        counts[histogram * query.size + index] += number
    return counts


def versions() -> dict[str, str]:
    """Of DuckDB."""
    return {"duckdb": duckdb.__version__}


def _objects(collection: str, number: str, more: str = "") -> str:
    """A row for each object of events, with its number in the event and its four-vector."""
    p4 = ", ".join(
        f"unnest({collection}_{field}) AS {field}" for field in ("pt", "eta", "phi", "mass")
    )
    return f"""
        SELECT *, px(pt, phi) AS x, py(pt, phi) AS y, pz(pt, eta) AS z, energy(pt, eta, mass) AS e
        FROM (SELECT entry, {number} AS number, unnest({collection}_charge) AS charge, {p4} {more}
              FROM events"""


def _each(column: str, of: str, expression: str) -> str:
    """A list made of lists of the same length: `expression` of the values ``v[1]``, ``v[2]`` ..."""
    return f"list_transform(list_zip({of}), lambda v: {expression}) AS {column}"


_PAIR_MASS: Final = "invariant_mass(a.x + b.x, a.y + b.y, a.z + b.z, a.e + b.e)"
_SUMS: Final = {c: f"({c}[i] + {c}[j] + {c}[k])" for c in "xyze"}
_TRIPLET_MASS: Final = f"invariant_mass({', '.join(_SUMS.values())})"
_TRIPLET_PT2: Final = f"({_SUMS['x']} * {_SUMS['x']} + {_SUMS['y']} * {_SUMS['y']})"
_JET_LISTS: Final = ", ".join(
    (
        _each("x", "Jet_pt, Jet_phi", "px(v[1], v[2])"),
        _each("y", "Jet_pt, Jet_phi", "py(v[1], v[2])"),
        _each("z", "Jet_pt, Jet_eta", "pz(v[1], v[2])"),
        _each("e", "Jet_pt, Jet_eta, Jet_mass", "energy(v[1], v[2], v[3])"),
    )
)


def _trijet(value: str, more: str = "") -> str:
    return f"""
        SELECT arg_min({value}, abs({_TRIPLET_MASS} - 172.5)) AS value
        FROM (SELECT entry, nJet AS n, {_JET_LISTS} {more} FROM events WHERE nJet >= 3)
        JOIN triplets USING (n)
        GROUP BY entry
        """


_MUON_PAIRS: Final = f"""
    WITH muons AS MATERIALIZED ({_objects("Muon", "generate_subscripts(Muon_pt, 1)", ", MET_pt")}
                                WHERE nMuon >= 2))
    SELECT any_value(a.MET_pt) AS value
    FROM muons a JOIN muons b ON a.entry = b.entry AND a.number < b.number
    WHERE a.charge * b.charge < 0 AND {_PAIR_MASS} > 60 AND {_PAIR_MASS} < 120
    GROUP BY a.entry
    """

_DIRECTIONS: Final = {
    c: f"list_zip({c}_pt, {c}_eta, {c}_phi)" for c in ("Jet", "Electron", "Muon")
}
_ISOLATED: Final = f"""
    SELECT coalesce(list_sum(list_transform(
               list_filter({_DIRECTIONS["Jet"]}, lambda j: above(j[1], 30) AND NOT coalesce(
                   list_bool_or(list_transform(leptons, lambda l:
                       power(j[2]::DOUBLE - l[2]::DOUBLE, 2)
                       + power(distance(j[3]::DOUBLE, l[3]::DOUBLE), 2) < 0.4::DOUBLE * 0.4::DOUBLE)),
                   false)),
               lambda j: j[1]::DOUBLE)), 0) AS value
    FROM (SELECT Jet_pt, Jet_eta, Jet_phi,
                 list_filter(list_concat({_DIRECTIONS["Electron"]}, {_DIRECTIONS["Muon"]}),
                             lambda l: above(l[1], 10)) AS leptons
          FROM events)
    """

_LEPTONS: Final = " UNION ALL ".join(
    _objects(collection, number, f", {flavour} AS flavour, MET_pt, MET_phi")
    + " WHERE nElectron + nMuon >= 3)"
    for collection, number, flavour in (
        ("Electron", "generate_subscripts(Electron_pt, 1)", 11),
        ("Muon", "nElectron + generate_subscripts(Muon_pt, 1)", 13),
    )
)
_OUTSIDE_Z: Final = f"""
    WITH leptons AS MATERIALIZED ({_LEPTONS}),
    pairs AS (
        SELECT a.entry, arg_min({{'first': a.number, 'second': b.number}},
                                abs({_PAIR_MASS} - 91.2)) AS pair
        FROM leptons a JOIN leptons b
            ON a.entry = b.entry AND a.number < b.number AND a.flavour = b.flavour
        WHERE a.charge * b.charge < 0
        GROUP BY a.entry)
    SELECT arg_max(2 * sqrt(pt::DOUBLE * MET_pt::DOUBLE)
                   * abs(sin((phi::DOUBLE - MET_phi::DOUBLE) / 2)), pt) AS value
    FROM leptons JOIN pairs USING (entry)
    WHERE number <> pair.first AND number <> pair.second
    GROUP BY entry
    """

_ADL: Final = {
    "1": "SELECT MET_pt AS value FROM events",
    "2": "SELECT unnest(Jet_pt) AS value FROM events",
    "3": """
        SELECT pt AS value
        FROM (SELECT unnest(Jet_pt) AS pt, unnest(Jet_eta) AS eta FROM events)
        WHERE abs(eta) < 1
        """,
    "4": """
        SELECT MET_pt AS value FROM events
        WHERE len(list_filter(Jet_pt, lambda pt: above(pt, 40))) >= 2
        """,
    "5": _MUON_PAIRS,
    "6a": _trijet(f"sqrt({_TRIPLET_PT2})"),
    "6b": _trijet(
        "greatest(Jet_btagCSVV2[i], Jet_btagCSVV2[j], Jet_btagCSVV2[k])", ", Jet_btagCSVV2"
    ),
    "7": _ISOLATED,
    "8": _OUTSIDE_Z,
}
"""By query: a SELECT of the entries of its histogram."""

_TTBAR: Final = f"""
    WITH counted AS (
        SELECT entry, Jet_pt, Jet_eta, Jet_phi, Jet_mass, Jet_jetId, Jet_btagCSVV2,
            len(list_filter(list_zip(Electron_pt, Electron_eta, Electron_cutBased, Electron_sip3d),
                lambda l: above(l[1], 30) AND abs(l[2]::DOUBLE) < 2.1::DOUBLE AND l[3] = 4
                          AND l[4] < 4)) AS electrons,
            len(list_filter(list_zip(Muon_pt, Muon_eta, Muon_tightId, Muon_sip3d, Muon_pfRelIso04_all),
                lambda l: above(l[1], 30) AND abs(l[2]::DOUBLE) < 2.1::DOUBLE AND l[3] AND l[4] < 4
                          AND l[5]::DOUBLE < 0.15::DOUBLE)) AS muons
        FROM events),
    selected AS (
        SELECT entry, muons,
            list_filter(list_zip(Jet_pt, Jet_eta, Jet_phi, Jet_mass, Jet_jetId, Jet_btagCSVV2),
                lambda j: above(j[1], 30) AND abs(j[2]::DOUBLE) < 2.4::DOUBLE
                          AND (j[5]::INT & 4) <> 0) AS jets
        FROM counted WHERE electrons + muons = 1),
    chosen AS MATERIALIZED (
        SELECT *, len(list_filter(jets, lambda j: above(j[6], 0.5))) AS tags
        FROM selected WHERE len(jets) >= 4),
    trijets AS (
        SELECT muons, arg_max({_TRIPLET_MASS}, {_TRIPLET_PT2}) AS value
        FROM (SELECT entry, muons, len(jets) AS n,
                  list_transform(jets, lambda j: px(j[1], j[3])) AS x,
                  list_transform(jets, lambda j: py(j[1], j[3])) AS y,
                  list_transform(jets, lambda j: pz(j[1], j[2])) AS z,
                  list_transform(jets, lambda j: energy(j[1], j[2], j[4])) AS e,
                  list_transform(jets, lambda j: above(j[6], 0.5)) AS tag
              FROM chosen WHERE tags >= 2)
        JOIN triplets USING (n)
        WHERE tag[i] OR tag[j] OR tag[k]
        GROUP BY entry, muons)
    SELECT {len(REGIONS)} * muons AS histogram, list_sum(list_transform(jets, lambda j: j[1]::DOUBLE)) AS value
    FROM chosen WHERE tags = 1
    UNION ALL
    SELECT {len(REGIONS)} * muons + 1, value FROM trijets
    """
"""Entries of the histograms of `TTBAR`: of two channels, the muons' are the later ones."""

assert CHANNELS.index("muon") == 1
