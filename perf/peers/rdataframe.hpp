// What RDataFrame calls for each event: the ADL queries from the fifth on, and the ttbar selection.
// Columns are float32; comparisons and kinematics are in double precision, as in analysis/kernels.
#pragma once
#include <ROOT/RVec.hxx>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace peers {

using Floats = const ROOT::RVec<float> &;
using Ints = const ROOT::RVec<int> &;
using Bools = const ROOT::RVec<bool> &;

constexpr double infinity = std::numeric_limits<double>::infinity();

// Cartesian four-vectors; they keep their memory from event to event.
struct Vectors {
  std::vector<double> x, y, z, e;

  void clear() {
    x.clear();
    y.clear();
    z.clear();
    e.clear();
  }
  void add(double pt, double eta, double phi, double mass) {
    const double pz = pt * std::sinh(eta);
    x.push_back(pt * std::cos(phi));
    y.push_back(pt * std::sin(phi));
    z.push_back(pz);
    e.push_back(std::sqrt(pt * pt + pz * pz + mass * mass));
  }
  void add(Floats pt, Floats eta, Floats phi, Floats mass) {
    for (size_t i = 0; i < pt.size(); ++i) add(pt[i], eta[i], phi[i], mass[i]);
  }
  int size() const { return static_cast<int>(x.size()); }
};

// The square first: std::max gives its first argument where that is NaN.
inline double mass(double x, double y, double z, double e) {
  return std::sqrt(std::max(e * e - (x * x + y * y + z * z), 0.));
}

inline double pair_mass(const Vectors &v, int i, int j) {
  return mass(v.x[i] + v.x[j], v.y[i] + v.y[j], v.z[i] + v.z[j], v.e[i] + v.e[j]);
}

// --- query 5: an opposite-charge pair with 60 < mass < 120

inline bool z_candidate(Floats pt, Floats eta, Floats phi, Floats m, Ints charge) {
  static thread_local Vectors muons;
  muons.clear();
  muons.add(pt, eta, phi, m);
  for (int i = 0; i < muons.size(); ++i)
    for (int j = i + 1; j < muons.size(); ++j)
      if (charge[i] * charge[j] < 0) {
        const double together = pair_mass(muons, i, j);
        if (together > 60 && together < 120) return true;
      }
  return false;
}

// --- query 6: the trijet with the mass closest to 172.5

struct Trijet {
  int i = -1, j = -1, k = -1;
  double pt = 0;
};

inline Trijet closest_trijet(Floats pt, Floats eta, Floats phi, Floats m) {
  static thread_local Vectors jets;
  jets.clear();
  jets.add(pt, eta, phi, m);
  const int n = jets.size();
  Trijet found;
  double best = infinity;
  for (int i = 0; i < n; ++i)
    for (int j = i + 1; j < n; ++j) {
      const double x = jets.x[i] + jets.x[j], y = jets.y[i] + jets.y[j];
      const double z = jets.z[i] + jets.z[j], e = jets.e[i] + jets.e[j];
      for (int k = j + 1; k < n; ++k) {
        const double together = mass(x + jets.x[k], y + jets.y[k], z + jets.z[k], e + jets.e[k]);
        const double distance = std::abs(together - 172.5);
        if (distance < best) {
          best = distance;
          found.i = i;
          found.j = j;
          found.k = k;
        }
      }
    }
  if (found.i >= 0)
    found.pt = std::hypot(jets.x[found.i] + jets.x[found.j] + jets.x[found.k],
                          jets.y[found.i] + jets.y[found.j] + jets.y[found.k]);
  return found;
}

inline double largest(const Trijet &t, Floats btag) {
  const double a = btag[t.i], b = btag[t.j], c = btag[t.k];
  return std::isnan(a + b + c) ? std::numeric_limits<double>::quiet_NaN()
                               : std::max({a, b, c});
}

// --- query 7: sum of pt of jets with pt > 30 that are 0.4 from every lepton with pt > 10

inline bool close(double eta, double phi, Floats pts, Floats etas, Floats phis) {
  for (size_t i = 0; i < pts.size(); ++i)
    if (pts[i] > 10) {
      const double deta = eta - etas[i];
      double dphi = std::abs(phi - phis[i]);
      if (dphi > M_PI) dphi = 2 * M_PI - dphi;
      if (deta * deta + dphi * dphi < 0.4 * 0.4) return true;
    }
  return false;
}

inline double isolated_ht(Floats pt, Floats eta, Floats phi, Floats electron_pt,
                          Floats electron_eta, Floats electron_phi, Floats muon_pt,
                          Floats muon_eta, Floats muon_phi) {
  double sum = 0;
  for (size_t i = 0; i < pt.size(); ++i)
    if (pt[i] > 30 && !close(eta[i], phi[i], electron_pt, electron_eta, electron_phi) &&
        !close(eta[i], phi[i], muon_pt, muon_eta, muon_phi))
      sum += pt[i];
  return sum;
}

// --- query 8: transverse mass of missing ET and the leading lepton outside the best Z pair

// Nothing where there is no pair.
inline ROOT::RVec<double> transverse_mass(
    Floats electron_pt, Floats electron_eta, Floats electron_phi, Floats electron_mass,
    Ints electron_charge, Floats muon_pt, Floats muon_eta, Floats muon_phi, Floats muon_mass,
    Ints muon_charge, float met_pt, float met_phi) {
  const int electrons = electron_pt.size(), n = electrons + muon_pt.size();
  if (n < 3) return {};
  static thread_local Vectors leptons;
  leptons.clear();
  leptons.add(electron_pt, electron_eta, electron_phi, electron_mass);
  leptons.add(muon_pt, muon_eta, muon_phi, muon_mass);
  const auto charge = [&](int i) {
    return i < electrons ? electron_charge[i] : muon_charge[i - electrons];
  };
  double best = infinity;
  int first = -1, second = -1;
  for (int i = 0; i < n; ++i)
    for (int j = i + 1; j < n; ++j)
      if ((i < electrons) == (j < electrons) && charge(i) * charge(j) < 0) {
        const double distance = std::abs(pair_mass(leptons, i, j) - 91.2);
        if (distance < best) {
          best = distance;
          first = i;
          second = j;
        }
      }
  if (first < 0) return {};
  double leading = -infinity, phi = std::numeric_limits<double>::quiet_NaN();
  for (int i = 0; i < n; ++i) {
    const double pt = i < electrons ? electron_pt[i] : muon_pt[i - electrons];
    if (i != first && i != second && pt > leading) {
      leading = pt;
      phi = i < electrons ? electron_phi[i] : muon_phi[i - electrons];
    }
  }
  return {2 * std::sqrt(leading * met_pt) * std::abs(std::sin((phi - met_phi) / 2))};
}

// --- ttbar

inline int good_electrons(Floats pt, Floats eta, Ints cut_based, Floats sip3d) {
  int n = 0;
  for (size_t i = 0; i < pt.size(); ++i)
    n += pt[i] > 30 && std::abs(double(eta[i])) < 2.1 && cut_based[i] == 4 && sip3d[i] < 4;
  return n;
}

inline int good_muons(Floats pt, Floats eta, Bools tight, Floats sip3d, Floats isolation) {
  int n = 0;
  for (size_t i = 0; i < pt.size(); ++i)
    n += pt[i] > 30 && std::abs(double(eta[i])) < 2.1 && tight[i] && sip3d[i] < 4 &&
         double(isolation[i]) < 0.15;
  return n;
}

// Indices of the selected jets.
inline ROOT::RVec<int> good_jets(Floats pt, Floats eta, Ints id) {
  ROOT::RVec<int> chosen;
  for (size_t i = 0; i < pt.size(); ++i)
    if (pt[i] > 30 && std::abs(double(eta[i])) < 2.4 && (id[i] & 4)) chosen.push_back(i);
  return chosen;
}

inline int b_tags(Ints jets, Floats btag) {
  return std::count_if(jets.begin(), jets.end(), [&](int i) { return btag[i] > 0.5; });
}

inline double ht(Ints jets, Floats pt) {
  double sum = 0;
  for (int i : jets) sum += pt[i];
  return sum;
}

// Mass of the trijet of largest pt that has a b-tagged jet.
inline double top_mass(Ints jets, Floats pt, Floats eta, Floats phi, Floats m, Floats btag) {
  static thread_local Vectors v;
  v.clear();
  for (int i : jets) v.add(pt[i], eta[i], phi[i], m[i]);
  double best = -1, found = std::numeric_limits<double>::quiet_NaN();
  int a = -1, b = -1, c = -1;
  for (int i = 0; i < v.size(); ++i)
    for (int j = i + 1; j < v.size(); ++j)
      for (int k = j + 1; k < v.size(); ++k) {
        if (!(btag[jets[i]] > 0.5 || btag[jets[j]] > 0.5 || btag[jets[k]] > 0.5)) continue;
        const double x = v.x[i] + v.x[j] + v.x[k], y = v.y[i] + v.y[j] + v.y[k];
        if (x * x + y * y > best) {
          best = x * x + y * y;
          a = i;
          b = j;
          c = k;
        }
      }
  if (a >= 0)
    found = mass(v.x[a] + v.x[b] + v.x[c], v.y[a] + v.y[b] + v.y[c], v.z[a] + v.z[b] + v.z[c],
                 v.e[a] + v.e[b] + v.e[c]);
  return found;
}

}  // namespace peers
