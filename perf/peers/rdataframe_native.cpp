// RDataFrame as a compiled program: typed lambdas and columns, nothing is left to cling.
#include "rdataframe.hpp"

#include <ROOT/RDataFrame.hxx>
#include <TH1D.h>

#include <map>
#include <string>
#include <vector>

using namespace peers;
using Events = ROOT::RDF::RNode;
using Model = ROOT::RDF::TH1DModel;
using Histogram = ROOT::RDF::RResultPtr<TH1D>;
using Names = std::vector<std::string>;
using FloatColumn = ROOT::RVec<float>;

static Names of(const std::string &collection, const Names &fields) {
  Names names;
  for (const auto &field : fields) names.push_back(collection + "_" + field);
  return names;
}

static Names operator+(Names names, const Names &more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

static const Names directions{"pt", "eta", "phi"};
static const Names p4{"pt", "eta", "phi", "mass"};
static const Names charged{"pt", "eta", "phi", "mass", "charge"};

// By a column that is read anyway: whether counters such as nJet are signed depends on who wrote them.
template <unsigned number>
bool at_least(Floats objects) {
  return objects.size() >= number;
}

static Events trijets(Events events) {
  return events.Filter(at_least<3>, {"Jet_pt"})
      .Define("trijet", closest_trijet, of("Jet", p4))
      .Filter([](const Trijet &t) { return t.i >= 0; }, {"trijet"});
}

static const std::map<std::string, Histogram (*)(Events, const Model &)> queries{
    {"1", [](Events e, const Model &m) { return e.Histo1D<float>(m, "MET_pt"); }},
    {"2", [](Events e, const Model &m) { return e.Histo1D<FloatColumn>(m, "Jet_pt"); }},
    {"3",
     [](Events e, const Model &m) {
       return e
           .Define("central_pt", [](Floats pt, Floats eta) { return pt[abs(eta) < 1]; },
                   {"Jet_pt", "Jet_eta"})
           .Histo1D<FloatColumn>(m, "central_pt");
     }},
    {"4",
     [](Events e, const Model &m) {
       const auto two_hard = [](Floats pt) {
         return std::count_if(pt.begin(), pt.end(), [](float one) { return one > 40; }) >= 2;
       };
       return e.Filter(two_hard, {"Jet_pt"}).Histo1D<float>(m, "MET_pt");
     }},
    {"5",
     [](Events e, const Model &m) {
       return e.Filter(at_least<2>, {"Muon_pt"})
           .Filter(z_candidate, of("Muon", charged))
           .Histo1D<float>(m, "MET_pt");
     }},
    {"6a",
     [](Events e, const Model &m) {
       return trijets(e)
           .Define("trijet_pt", [](const Trijet &t) { return t.pt; }, {"trijet"})
           .Histo1D<double>(m, "trijet_pt");
     }},
    {"6b",
     [](Events e, const Model &m) {
       return trijets(e)
           .Define("btag", largest, {"trijet", "Jet_btagCSVV2"})
           .Histo1D<double>(m, "btag");
     }},
    {"7",
     [](Events e, const Model &m) {
       const auto columns = of("Jet", directions) + of("Electron", directions) + of("Muon", directions);
       return e.Define("isolated_ht", isolated_ht, columns).Histo1D<double>(m, "isolated_ht");
     }},
    {"8",
     [](Events e, const Model &m) {
       const auto columns =
           of("Electron", charged) + of("Muon", charged) + Names{"MET_pt", "MET_phi"};
       return e
           .Filter([](Floats electrons, Floats muons) { return electrons.size() + muons.size() >= 3; },
                   {"Electron_pt", "Muon_pt"})
           .Define("mt", transverse_mass, columns)
           .Histo1D<ROOT::RVec<double>>(m, "mt");
     }},
};

static std::vector<Histogram> ttbar(Events events, const Model &m) {
  auto four_jets =
      events.Define("electrons", good_electrons, of("Electron", {"pt", "eta", "cutBased", "sip3d"}))
          .Define("muons", good_muons,
                  of("Muon", {"pt", "eta", "tightId", "sip3d", "pfRelIso04_all"}))
          .Filter([](int electrons, int muons) { return electrons + muons == 1; },
                  {"electrons", "muons"})
          .Define("jets", good_jets, {"Jet_pt", "Jet_eta", "Jet_jetId"})
          .Filter([](Ints jets) { return jets.size() >= 4; }, {"jets"})
          .Define("b_tags", b_tags, {"jets", "Jet_btagCSVV2"});
  auto one_b = four_jets.Filter([](int n) { return n == 1; }, {"b_tags"})
                   .Define("observable", ht, {"jets", "Jet_pt"});
  auto two_b = four_jets.Filter([](int n) { return n >= 2; }, {"b_tags"})
                   .Define("observable", top_mass,
                           Names{"jets"} + of("Jet", p4) + Names{"Jet_btagCSVV2"});
  const auto one = [](int n) { return n == 1; };
  std::vector<Histogram> booked;
  for (const auto *channel : {"electrons", "muons"}) {
    booked.push_back(one_b.Filter(one, {channel}).Histo1D<double>(m, "observable"));
    booked.push_back(two_b.Filter(one, {channel}).Histo1D<double>(m, "observable"));
  }
  return booked;
}

// Counts with underflow and overflow, one histogram after the other.
extern "C" void run(const char *path, const char *query, int bins, double low, double high,
                    double *counts) {
  ROOT::RDataFrame events("Events", path);
  const Model model("", "", bins, low, high);
  std::vector<Histogram> booked;
  if (std::string(query) == "ttbar")
    booked = ttbar(events, model);
  else
    booked.push_back(queries.at(query)(events, model));
  for (auto &histogram : booked)
    for (int i = 0; i < bins + 2; ++i) *counts++ = histogram->GetBinContent(i);
}
