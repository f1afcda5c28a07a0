"""Polars: lazy queries on Parquet with the streaming engine, one thread.

Objects become rows (``explode``), which are filtered, joined and grouped by event. The trijets of
query 6 are gathered by a table of index triplets, a row group at a time, which is faster than joining
three times. What a user must know, and this does:

- NaN is larger than everything, so that ``NaN > 30`` is true: cuts from below exclude it.
- A single-precision column is compared with a literal in single precision: columns are cast first.
- ``explode`` makes a row of an empty list unless it is told not to.

Kinematics are taken to be finite in queries 5, 6 and 8 and in the trijets of ttbar.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import polars as pl
from polars import col

from perf.peers.query import CHANNELS, REGIONS, TTBAR, Query

BATCH: Final = 50_000
"""Events whose triplets are in memory at a time."""

MOST_JETS: Final = 40
"""Of an event, in the table of triplets; more is an error."""

P4: Final = ("pt", "eta", "phi", "mass")
CARTESIAN: Final = ("x", "y", "z", "e")
DIRECTION: Final = ("pt", "eta", "phi")

TRIPLETS: Final = pl.DataFrame(
    {
        "nJet": range(3, MOST_JETS + 1),
        "triplet": [
            [list(one) for one in itertools.combinations(range(n), 3)]
            for n in range(3, MOST_JETS + 1)
        ],
    },
    schema={"nJet": pl.UInt32, "triplet": pl.List(pl.Array(pl.UInt32, 3))},
)


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a Parquet file."""
    counts = [0.0] * (query.histograms * query.size)
    events = pl.scan_parquet(path, row_index_name="entry")
    if query.name in {"6a", "6b"}:
        parts = _trijets(events, query.name)
    else:
        parts = iter([_ttbar(events) if query.name == TTBAR else _ADL[query.name](events)])
    for entries in parts:
        for histogram, index, number in _binned(entries, query):
            counts[histogram * query.size + index] += number
    return counts


def versions() -> dict[str, str]:
    """Of Polars."""
    return {"polars": pl.__version__}


def _binned(entries: Any, query: Query) -> Any:
    """Rows of histogram, bin and number of entries."""
    value = _double("value")
    position = (value - query.low) / (query.high - query.low) * query.bins
    index = (
        pl.when(value < query.low)
        .then(0)
        .when(value < query.high)
        .then(1 + position.floor())
        .otherwise(query.bins + 1)
    )
    histogram = col("histogram") if query.histograms > 1 else pl.lit(0)
    return (
        entries.select(histogram=histogram, bin=index.cast(pl.Int32))
        .group_by("histogram", "bin")
        .len()
        .collect(engine="streaming")
        .rows()
    )


def _double(name: str) -> Any:
    return col(name).cast(pl.Float64)


def _above(name: str, least: float) -> Any:
    return (col(name) > least) & col(name).is_not_nan()


def _objects(events: Any, collection: str, *fields: str, keep: tuple[str, ...] = ()) -> Any:
    """A row for each object, with its event and what is kept of that."""
    columns = [col(f"{collection}_{field}").alias(field) for field in fields]
    return events.select("entry", *keep, *columns).explode(*fields, empty_as_null=False)


def _numbered(objects: Any) -> Any:
    """With a number that grows within the event."""
    return objects.with_columns(number=pl.int_range(pl.len()))


def _cartesian(objects: Any) -> Any:
    pt = _double("pt")
    return objects.with_columns(
        x=pt * _double("phi").cos(), y=pt * _double("phi").sin(), z=pt * _double("eta").sinh()
    ).with_columns(e=(pt**2 + col("z") ** 2 + _double("mass") ** 2).sqrt())


def _mass(x: Any, y: Any, z: Any, e: Any) -> Any:
    return pl.max_horizontal(pl.lit(0.0), e**2 - (x**2 + y**2 + z**2)).sqrt()


def _sums(*suffixes: str) -> list[Any]:
    """Components of the sum of the vectors whose columns have these suffixes."""
    return [pl.sum_horizontal(*(c + suffix for suffix in suffixes)) for c in CARTESIAN]


def _pairs(objects: Any, *on: str) -> Any:
    return objects.join(objects, on=on, suffix="_2").filter(col("number") < col("number_2"))


def _query_2(events: Any) -> Any:
    return events.select(value=col("Jet_pt").explode(empty_as_null=False))


def _query_3(events: Any) -> Any:
    jets = _objects(events, "Jet", "pt", "eta")
    return jets.filter(col("eta").abs() < 1).select(value="pt")


def _query_4(events: Any) -> Any:
    hard = (pl.element() > 40) & pl.element().is_not_nan()
    return events.filter(col("Jet_pt").list.eval(hard).list.sum() >= 2).select(value="MET_pt")


def _query_5(events: Any) -> Any:
    muons = _objects(events.filter(col("nMuon") >= 2), "Muon", *P4, "charge", keep=("MET_pt",))
    muons = _cartesian(_numbered(muons)).select("entry", "number", "MET_pt", "charge", *CARTESIAN)
    mass = _mass(*_sums("", "_2"))
    good = (col("charge") * col("charge_2") < 0) & (mass > 60) & (mass < 120)
    return _pairs(muons, "entry").filter(good).group_by("entry").agg(value=col("MET_pt").first())


def _trijets(events: Any, name: str) -> Any:
    """Entries of query 6, a batch of events at a time."""
    tag = ("Jet_btagCSVV2",) if name == "6b" else ()
    columns = ["nJet", *(f"Jet_{field}" for field in P4), *tag]
    total = events.select(pl.len()).collect().item()
    for start in range(0, total, BATCH):
        batch = events.select(*columns).slice(start, BATCH).collect()
        yield _closest(batch, *tag).lazy()


def _closest(batch: Any, *tag: str) -> Any:
    jets = _cartesian(
        batch.select(col(f"Jet_{field}").explode(empty_as_null=False).alias(field) for field in P4)
    ).select(CARTESIAN)
    triplets = (
        batch.select("nJet", first=col("nJet").cum_sum() - col("nJet"))
        .with_row_index("entry")
        .join(TRIPLETS, on="nJet")
        .explode("triplet")
    )
    rows = [triplets["first"] + triplets["triplet"].arr.get(which) for which in range(3)]

    def gathered(column: Any) -> list[Any]:
        return [column.gather(one) for one in rows]

    sums = pl.DataFrame(
        {"entry": triplets["entry"]} | {c: sum(gathered(jets[c])) for c in CARTESIAN}
    )
    if tag:
        (name,) = tag
        tags = batch[name].explode(empty_as_null=False)
        value = pl.max_horizontal(*gathered(tags))
    else:
        value = (col("x") ** 2 + col("y") ** 2).sqrt()
    distance = (_mass(*map(col, CARTESIAN)) - 172.5).abs()
    return (
        sums.select("entry", distance=distance, value=value)
        .group_by("entry")
        .agg(value=col("value").get(col("distance").arg_min()))
    )


def _query_7(events: Any) -> Any:
    jets = _objects(events, "Jet", *DIRECTION).with_columns(jet=pl.int_range(pl.len()))
    jets = jets.filter(_above("pt", 30))
    leptons = pl.concat(
        _objects(events, collection, *DIRECTION).filter(_above("pt", 10))
        for collection in ("Electron", "Muon")
    )
    dphi = (_double("phi") - _double("phi_2")).abs()
    dphi = pl.when(dphi > math.pi).then(2 * math.pi - dphi).otherwise(dphi)
    distance2 = (_double("eta") - _double("eta_2")) ** 2 + dphi**2
    close = (
        jets.join(leptons, on="entry", suffix="_2")
        .filter(distance2 < 0.4 * 0.4)
        .select("jet")
        .unique()
    )
    sums = jets.join(close, on="jet", how="anti").group_by("entry").agg(value=_double("pt").sum())
    return (
        events.select("entry")
        .join(sums, on="entry", how="left")
        .select(value=col("value").fill_null(0.0))
    )


def _query_8(events: Any) -> Any:
    events = events.filter(col("nElectron") + col("nMuon") >= 3)
    keep = ("MET_pt", "MET_phi")
    # Of both flavours one is numbered evenly, the other oddly.
    leptons = pl.concat(
        _cartesian(_numbered(_objects(events, collection, *P4, "charge", keep=keep))).with_columns(
            flavour=pl.lit(flavour), number=2 * col("number") + flavour
        )
        for flavour, collection in enumerate(("Electron", "Muon"))
    )
    distance = (_mass(*_sums("", "_2")) - 91.2).abs()
    pairs = (
        _pairs(leptons, "entry", "flavour")
        .filter(col("charge") * col("charge_2") < 0)
        .with_columns(distance=distance)
        .group_by("entry")
        .agg(
            first=col("number").get(col("distance").arg_min()),
            second=col("number_2").get(col("distance").arg_min()),
        )
    )
    outside = leptons.join(pairs, on="entry").filter(
        (col("number") != col("first")) & (col("number") != col("second"))
    )
    half_angle = (_double("phi") - _double("MET_phi")) / 2
    transverse = 2 * (_double("pt") * _double("MET_pt")).sqrt() * half_angle.sin().abs()
    return (
        outside.select("entry", "pt", value=transverse)
        .group_by("entry")
        .agg(value=col("value").get(col("pt").arg_max()))
    )


_ADL: Final = {
    "1": lambda events: events.select(value="MET_pt"),
    "2": _query_2,
    "3": _query_3,
    "4": _query_4,
    "5": _query_5,
    "7": _query_7,
    "8": _query_8,
}
"""By query: the entries of its histogram, in a column."""


def _ttbar(events: Any) -> Any:
    """Entries of the histograms of `TTBAR`, with the number of the histogram."""
    good = (_above("pt", 30)) & (_double("eta").abs() < 2.1) & (col("sip3d") < 4)
    electrons = _objects(events, "Electron", "pt", "eta", "sip3d", "cutBased").filter(
        good & (col("cutBased") == 4)
    )
    muons = _objects(events, "Muon", "pt", "eta", "sip3d", "tightId", "pfRelIso04_all").filter(
        good & col("tightId") & (_double("pfRelIso04_all") < 0.15)
    )
    channels = dict(zip(CHANNELS, (electrons, muons), strict=True))
    one_lepton = (
        pl.concat(
            leptons.select("entry", channel=pl.lit(index))
            for index, leptons in enumerate(channels.values())
        )
        .group_by("entry")
        .agg(leptons=pl.len(), channel=col("channel").first())
        .filter(col("leptons") == 1)
    )
    jets = _objects(events, "Jet", *P4, "jetId", "btagCSVV2").filter(
        _above("pt", 30) & (_double("eta").abs() < 2.4) & ((col("jetId") & 4) != 0)
    )
    jets = jets.with_columns(tag=_above("btagCSVV2", 0.5)).join(
        one_lepton.select("entry", "channel"), on="entry"
    )
    selected = (
        jets.group_by("entry")
        .agg(
            jets=pl.len(),
            tags=col("tag").sum(),
            channel=col("channel").first(),
            value=_double("pt").sum(),
        )
        .filter(col("jets") >= 4)
    )
    one_b = selected.filter(col("tags") == 1).select(
        histogram=len(REGIONS) * col("channel"), value="value"
    )
    two_b = jets.join(selected.filter(col("tags") >= 2).select("entry"), on="entry", how="semi")
    vectors = _numbered(_cartesian(two_b)).select("entry", "channel", "number", "tag", *CARTESIAN)
    x, y, z, e = _sums("", "_2", "_3")
    trijets = (
        _pairs(vectors, "entry")
        .join(vectors, on="entry", suffix="_3")
        .filter(col("number_2") < col("number_3"))
        .filter(col("tag") | col("tag_2") | col("tag_3"))
        .select("entry", "channel", pt2=x**2 + y**2, mass=_mass(x, y, z, e))
        .group_by("entry")
        .agg(
            histogram=len(REGIONS) * col("channel").first() + 1,
            value=col("mass").get(col("pt2").arg_max()),
        )
    )
    return pl.concat([one_b, trijets.select("histogram", "value")])
