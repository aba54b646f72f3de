package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

var soapEntry = entry{
	name:    "soap",
	summary: "SOAP: Adam in the eigenbases of Shampoo's averages of g gᵀ and gᵀ g; pairs factor by factor",
	uses:    uses{beta2: true, epsilon: true, maxPreconditioned: true},
	// The paper's averages, and AdamW's rates: in its basis a step is Adam's, elements of about eta each.
	defaults: Config{LearningRate: 2e-4, WeightDecay: 0.01, Momentum: 0.95, Beta2: 0.95, Epsilon: 1e-8, Scale: "none",
		MaxPreconditioned: 512, LoRAPlusRatio: 1, Fallback: defaultFallback},
	rates: rates{full: 1e-3},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		rule := soapRule{adam: newAdamRule(cfg), maxPreconditioned: cfg.MaxPreconditioned}
		return routeMatrices(cfg, spec, pairedSOAPRule{rule}, rule)
	},
}

// soapRule is SOAP on stacked dense matrices:
//
//	m ← beta1 m + (1-beta1) g,   L ← beta2 L + (1-beta2) g gᵀ,   R ← beta2 R + (1-beta2) gᵀ g
//	Q_L, Q_R: orthonormal, a turn nearer to the eigenvectors of L and R (eigenbasis.go)
//	v ← beta2 v + (1-beta2) (Q_Lᵀ g Q_R)²,   N = (Q_Lᵀ m̂ Q_R)/(√v̂ + epsilon)
//	W ← (1 - lambda·eta) W - eta·Q_L N Q_Rᵀ,   m̂ = m/(1 - beta1ᵗ), v̂ = v/(1 - beta2ᵗ)
//
// The bases begin at I, where the step is AdamW's, and any orthonormal basis gives a valid step: one turn a step is enough, and no
// first step is spent on an eigendecomposition. A turn moves each vector continuously, so that v needs no reordering. Of a
// side that is longer than maxPreconditioned and not the shorter one the basis is I.
//
// Accuracy: where the eigenvalues are apart the step comes to agree with one in the true eigenvectors, within 6e-4 at beta2 0.99
// (TestSOAPOracle).
// Cost: 22 n³ operations a side of n for the basis, its average, and four products of the matrix with it.
// Ref: Vyas et al. 2024, arXiv 2409.11321, algorithm 3; the turns are ours.
type soapRule struct {
	adam              adamRule
	maxPreconditioned int
}

func (soapRule) Name() string      { return "soap" }
func (soapRule) Layout() Layout    { return Dense }
func (soapRule) Directional() bool { return false }

func (r soapRule) State(dims [][]int) []Slot { return r.slots("", 0, dims[0]) }

// slots returns the state of the value with index of: QL and QR hold eigenvectors as rows, zero standing for I.
func (r soapRule) slots(suffix string, of int, dims []int) []Slot {
	slots := preconditionerSlots(suffix, of, dims, r.maxPreconditioned)
	for _, slot := range slots {
		slots = append(slots, Slot{"Q" + slot.Name, of, slot.Dims})
	}
	return append(slots, Slot{"m" + suffix, of, dims}, Slot{"v" + suffix, of, dims})
}

func (r soapRule) Flops(dims [][]int) int64 { return r.flops(dims[0]) }

// flops counts the averages' Gram matrices, the turns, and the products of gradient, momentum and direction with the bases.
func (r soapRule) flops(dims []int) int64 {
	k, m, n := int64(dims[0]), int64(dims[1]), int64(dims[2])
	left, right := preconditioned(dims[1], dims[2], r.maxPreconditioned)
	var total int64
	if left {
		total += 8*m*m*n + eigenbasisFlops(dims[1])
	}
	if right {
		total += 8*n*n*m + eigenbasisFlops(dims[2])
	}
	return k * total
}

func (r soapRule) Update(s *Step, values, grads []*Node) []*Node {
	return []*Node{Sub(decay(values[0], s.Rate, r.adam.weightDecay), r.step(s, "", grads[0]))}
}

// step takes in the gradient of one value, whose states' names end in suffix, and returns eta·Q_L N Q_Rᵀ.
func (r soapRule) step(s *Step, suffix string, grad *Node) *Node {
	var left, right *Node // nil is I
	onLeft, onRight := preconditioned(grad.Shape().Dim(1), grad.Shape().Dim(2), r.maxPreconditioned)
	if onLeft {
		left = s.turnedBasis("QL"+suffix, s.Momentum("L"+suffix, timesTransposed(grad, grad), r.adam.beta2, false))
	}
	if onRight {
		right = s.turnedBasis("QR"+suffix, s.Momentum("R"+suffix, gramOf(grad), r.adam.beta2, false))
	}
	into := func(x *Node) *Node {
		if left != nil {
			x = times(left, x)
		}
		if right != nil {
			x = timesTransposed(x, right)
		}
		return x
	}
	v := s.Momentum("v"+suffix, Square(into(grad)), r.adam.beta2, false)
	step := r.adam.quotient(s, into(s.Momentum("m"+suffix, grad, r.adam.beta1, false)), v)
	if left != nil {
		step = times(Transpose(left, 1, 2), step)
	}
	if right != nil {
		step = times(step, right)
	}
	return step
}

// turnedBasis turns the basis kept in the state called name towards the eigenvectors of p and returns it.
func (s *Step) turnedBasis(name string, p *Node) *Node {
	basis := s.State(name)
	basis = Add(basis, Mul(identities(basis), OneMinus(isNonzero(basis)))) // zero at the start
	basis = turn(basis, p, s.exact)
	s.SetState(name, basis)
	return basis
}

// pairedSOAPRule treats each factor of a pair as a dense matrix, with lora-muon's split decay.
type pairedSOAPRule struct{ soapRule }

func (pairedSOAPRule) Layout() Layout { return Paired }

func (r pairedSOAPRule) State(dims [][]int) []Slot {
	return append(r.slots("A", 0, dims[0]), r.slots("B", 1, dims[1])...)
}

func (r pairedSOAPRule) Flops(dims [][]int) int64 { return r.flops(dims[0]) + r.flops(dims[1]) }

func (r pairedSOAPRule) Update(s *Step, values, grads []*Node) []*Node {
	k := splitDecay(s.Rate, r.adam.weightDecay)
	return []*Node{
		Sub(Mul(values[0], k), r.step(s, "A", grads[0])),
		Sub(Mul(values[1], k), r.step(s, "B", grads[1])),
	}
}
