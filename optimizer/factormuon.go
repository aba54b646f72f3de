package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var factorMuonEntry = entry{
	name:     "factor-muon",
	summary:  "Muon on each factor of a low-rank pair by itself, as if it were a dense matrix; for comparison",
	uses:     uses{nesterov: true},
	msign:    true,
	defaults: Config{LearningRate: 0.03, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", LoRAPlusRatio: 1, Fallback: defaultFallback},
	rates:    rates{adapter: 0.01, full: 0.02},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routePairs(cfg, spec, factorMuonRule{newMuonRule(cfg)})
	},
}

// factorMuonRule moves each factor by eta·scale along its own polar factor, the scale that of the layer's weight W. How
// far W moves then depends on the factors' norms, which is what lora-muon repairs. The decay is split as lora-muon's.
type factorMuonRule struct{ muonRule }

func (factorMuonRule) Name() string   { return "factor-muon" }
func (factorMuonRule) Layout() Layout { return Paired }

func (factorMuonRule) State(dims [][]int) []Slot { return pairMoments(dims) }

func (factorMuonRule) Flops(dims [][]int) int64 {
	return int64(dims[0][0]) * (matfn.MsignFlopsOf(dims[0][1], dims[0][2]) + matfn.MsignFlopsOf(dims[1][1], dims[1][2]))
}

func (r factorMuonRule) Update(s *Step, values, grads []*Node) []*Node {
	mA := s.Momentum("mA", grads[0], r.beta, r.nesterov)
	mB := s.Momentum("mB", grads[1], r.beta, r.nesterov)
	dA, dB := s.msignBoth(mA, mB)
	eta := MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn))
	k := splitDecay(s.Rate, r.weightDecay)
	return []*Node{Sub(Mul(values[0], k), Mul(dA, eta)), Sub(Mul(values[1], k), Mul(dB, eta))}
}
