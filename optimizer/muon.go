package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var muonEntry = entry{
	name:     "muon",
	summary:  "hidden matrices: W ← (1-λη) W - η·scale·msign(momentum); spectral-norm steepest descent",
	uses:     uses{nesterov: true},
	msign:    true,
	defaults: Config{LearningRate: 0.03, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", LoRAPlusRatio: 1, Fallback: defaultFallback},
	rates:    rates{adapter: 0.02, full: 0.02},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		if isFallbackRole(spec.Role) {
			return fallbackAssignment(cfg), true
		}
		return onMain(newMuonRule(cfg)), spec.Role == param.Hidden
	},
}

// muonRule is Muon on stacked dense matrices. Ref: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the width scale
// makes eta the RMS-to-RMS norm of an update (Bernstein 2025).
type muonRule struct {
	beta, weightDecay float64
	nesterov          bool
	scale             string
}

func newMuonRule(cfg Config) muonRule {
	return muonRule{beta: cfg.Momentum, weightDecay: cfg.WeightDecay, nesterov: cfg.Nesterov, scale: cfg.Scale}
}

func (muonRule) Name() string      { return "muon" }
func (muonRule) Layout() Layout    { return Dense }
func (muonRule) Directional() bool { return true }

func (muonRule) State(dims [][]int) []Slot { return []Slot{{"m", 0, dims[0]}} }

func (muonRule) Flops(dims [][]int) int64 {
	return int64(dims[0][0]) * matfn.MsignFlopsOf(dims[0][1], dims[0][2])
}

func (r muonRule) Update(s *Step, values, grads []*Node) []*Node {
	direction := s.Msign(s.Momentum("m", grads[0], r.beta, r.nesterov))
	eta := MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn))
	return []*Node{Sub(decay(values[0], s.Rate, r.weightDecay), Mul(direction, eta))}
}
