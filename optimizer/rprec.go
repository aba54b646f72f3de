package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/matfn"
	"github.com/polargo/polar/param"
)

var rprecAdamWEntry = entry{
	name:    "rprec-adamw",
	summary: "low-rank pairs: AdamW on gradients preconditioned by the other factor, ∇_A (BᵀB + δI)⁻¹ (Riemannian)",
	uses:    uses{beta2: true, epsilon: true},
	// AdamW's settings, rate included: Adam divides by the size of the preconditioned gradient, so that the preconditioner turns
	// a step and does not lengthen it.
	defaults: Config{LearningRate: 2e-4, WeightDecay: 0.01, Momentum: 0.9, Beta2: 0.999, Epsilon: 1e-8, Scale: "none",
		LoRAPlusRatio: 1, Fallback: defaultFallback},
	rates: rates{full: 1e-3},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		// Hidden matrices follow AdamW: the rate is one of elements, at which a msign step would hardly move.
		return routeMatrices(cfg, spec, rprecAdamWRule{newAdamRule(cfg)}, newAdamRule(cfg))
	},
}

// riemannianRidge is δ, that of the authors' code.
const riemannianRidge = 1e-6

// rprecAdamWRule is AdamW in the Riemannian metric of a low-rank pair:
//
//	g_A = ∇_A (BᵀB + δI)⁻¹,   g_B = ∇_B (AᵀA + δI)⁻¹;   m, v: moving averages of g and of its elements' squares
//	A ← (1 - lambda·eta) A - eta·m̂_A/(√v̂_A + epsilon),   B likewise,   m̂ = m/(1 - beta1ᵗ), v̂ = v/(1 - beta2ᵗ)
//
// Each factor decays as AdamW's do, so that the product decays twice. A factor that is zero holds the other one still, whose
// step would not move W, also with moments from before.
//
// Accuracy: within 2e-5 of the float64 reference for factors of condition number up to 20 (TestRPrecOracle); the inverse is the
// square of InvSqrt, whose own ridge bounds it at 1e5/‖BᵀB‖ where that is less than 1/δ. Exact steps have δ alone.
// Ref: Zhang and Pilanci 2024, arXiv 2402.02347, section 3; δ as in github.com/pilancilab/Riemannian_Preconditioned_LoRA.
type rprecAdamWRule struct{ adamRule }

func (rprecAdamWRule) Name() string   { return "rprec-adamw" }
func (rprecAdamWRule) Layout() Layout { return Paired }

func (rprecAdamWRule) State(dims [][]int) []Slot {
	return append(pairMoments(dims), Slot{"vA", 0, dims[0]}, Slot{"vB", 1, dims[1]})
}

// Flops counts the Gram matrices, their inverses and the products with the gradients.
func (rprecAdamWRule) Flops(dims [][]int) int64 {
	k, m, n, r := int64(dims[0][0]), int64(dims[0][1]), int64(dims[1][1]), int64(dims[0][2])
	return k * (4*(m+n)*r*r + 2*(rootFlops(int(r))+2*r*r*r))
}

func (r rprecAdamWRule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	gramA, gramB := gramOf(a), gramOf(b)
	inverseA, inverseB := together(gramA, gramB, func(p *Node) *Node {
		root := s.InvSqrt(addIdentity(p, riemannianRidge))
		return times(root, root)
	})
	stepA := r.step(s, "mA", "vA", times(grads[0], inverseB))
	stepB := r.step(s, "mB", "vB", times(grads[1], inverseA))
	return []*Node{
		Sub(decay(a, s.Rate, r.weightDecay), Mul(stepA, isNonzero(gramB))),
		Sub(decay(b, s.Rate, r.weightDecay), Mul(stepB, isNonzero(gramA))),
	}
}

// rootFlops returns the operations of Step.InvSqrt on one r x r matrix.
func rootFlops(r int) int64 {
	return matfn.InvSqrtFlops(r, matfn.RootSteps) + 6*int64(r)*int64(r)*int64(r)
}
