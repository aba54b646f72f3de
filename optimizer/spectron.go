package optimizer

import (
	"math"
	"math/rand/v2"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var spectronEntry = entry{
	name:    "spectron",
	summary: "low-rank pairs: Muon on each factor, the step bounded on the product by the factors' spectral norms",
	uses:    uses{nesterov: true},
	msign:   true,
	// Twice lora-muon's rate: eta bounds the step, which is mostly about half of it.
	defaults: Config{LearningRate: 0.2, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", LoRAPlusRatio: 1, Fallback: defaultFallback},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routePairs(cfg, spec, spectronRule{newPairRule(cfg)})
	},
}

// spectronRule is Spectron on stacked pairs, with the norms of the factors before the step:
//
//	O_A = msign(m_A)   O_B = msign(m_B)   rho = eta/(√s‖A‖ + √s‖B‖ + 1)/√s
//	A ← (1 - lambda·eta) A - rho O_A      B ← (1 - lambda·eta) B - rho O_B
//
// For s = 1 that is the published rule. Other scales take it on the factors √s·A and √s·B, of which W is the plain product, so
// that alpha does not matter to a start of the same √s·A and √s·B. As long as rho·√s <= 1, W moves by at most eta in
// spectral norm. How far it does move depends on how scale is spread over the factors, which is what lora-muon repairs.
// The step does not vanish with a factor: msign(m_A) is what it is also while B is zero.
//
// The norms come from power iterations whose vectors are carried from step to step: 2^4 of them each step, as 4 squarings of
// the r x r Gram matrix, from the carried vector with a little of a fixed one mixed in (which starts the first step, and finds
// a direction that has grown where the carried vector is blind to it). For exact steps 2^30, which leave an error
// of 1e-9 however close the singular values are (TestSpectronNorms). They are lower bounds, off by a few percent in a first
// step and less as vectors settle.
// Cost a pair: Msign of both factors, 2(m+n) r² + 16 r³ operations for the norms.
// Ref: Janson et al. 2026, arXiv 2602.12429.
type spectronRule struct{ pairRule }

// The squarings of the Gram matrix behind a norm.
const spectronSquarings, spectronExactSquarings = 4, 30

func (spectronRule) Name() string { return "spectron" }

func (spectronRule) State(dims [][]int) []Slot {
	vector := []int{dims[0][0], dims[0][2]}
	return append(pairMoments(dims), Slot{"uA", 0, vector}, Slot{"uB", 1, vector})
}

func (spectronRule) Flops(dims [][]int) int64 {
	m, n, r := dims[0][1], dims[1][1], dims[0][2]
	square := int64(r) * int64(r)
	norms := 2*int64(m+n)*square + 2*2*spectronSquarings*square*int64(r)
	return int64(dims[0][0]) * (matfn.MsignFlopsOf(m, r) + matfn.MsignFlopsOf(n, r) + norms)
}

func (r spectronRule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	dA, dB := s.msignBoth(r.moments(s, grads))
	root := math.Sqrt(s.Group.Scale)
	norms := Add(s.factorNorm("uA", a), s.factorNorm("uB", b))
	eta := MulScalar(s.Rate, widthScale(r.scale, s.Group.FanOut, s.Group.FanIn)/root)
	rho := Div(eta, AddScalar(MulScalar(norms, root), 1))
	return []*Node{Sub(decay(a, s.Rate, r.weightDecay), Mul(dA, rho)), Sub(decay(b, s.Rate, r.weightDecay), Mul(dB, rho))}
}

// factorNorm returns the spectral norms [k, 1, 1] of x [k, m, r] by power iteration on xᵀx, from the vectors [k, r] in the
// state called name, which it replaces by the new ones. Zero has norm zero, and its vector stays near the start.
func (s *Step) factorNorm(name string, x *Node) *Node {
	squarings := spectronSquarings
	if s.exact {
		squarings = spectronExactSquarings
	}
	gram := gramOf(x)
	gram, largest := byLargest(gram)
	power := gram
	for range squarings {
		power, _ = byLargest(times(power, power))
	}
	start := startVector(gram)
	from := Add(ExpandAxes(s.State(name), -1), MulScalar(start, 1e-3))
	v, length := byLength(times(power, from))
	v = Where(BroadcastToShape(Equal(length, ZerosLike(length)), v.Shape()), start, v) // of a zero factor
	s.SetState(name, Squeeze(v, -1))
	v = Transpose(v, 1, 2)
	return Sqrt(Mul(ReduceAndKeep(Mul(times(v, gram), v), ReduceSum, 1, 2), largest))
}

// startVector returns the same random unit vectors [k, r, 1] for p [k, r, r] in every step.
func startVector(p *Node) *Node {
	rng := rand.New(rand.NewPCG(1, 0x9e3779b97f4a7c15))
	values := make([]float64, p.Shape().Dim(1))
	for i := range values {
		values[i] = rng.NormFloat64()
	}
	v := BroadcastPrefix(ExpandAxes(ConvertDType(Const(p.Graph(), values), p.DType()), -1), p.Shape().Dim(0))
	v, _ = byLength(v)
	return v
}
