package optimizer

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

const loraMuonOGDName = "lora-muon-ogd"

var loraMuonOGDEntry = entry{
	name:    loraMuonOGDName,
	summary: "low-rank pairs: lora-muon that leaves the directions of past tasks exactly as they are (optimizer.Protect)",
	uses:    uses{nesterov: true},
	msign:   true,
	defaults: Config{LearningRate: 0.1, WeightDecay: 0.01, Momentum: 0.9, Scale: "rms", Guard: true, LoRAPlusRatio: 1,
		Fallback: defaultFallback},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routePairs(cfg, spec, loraMuonOGDRule{loraMuonRule: newLoRAMuonRule(cfg)})
	},
}

// loraMuonOGDRule is LoRA-Muon under the constraint Uᵀ ΔW V = 0 for past directions U [m, p] and V [n, q] with orthonormal columns.
// Layers without directions move as by lora-muon, bit for bit.
//
// Of all steps whose halves ΔA Bᵀ and A ΔBᵀ move W by at most eta/2 each it takes the steepest one that the constraint allows. A
// multiplier Lambda [p, q] shifts the gradient, G + U Lambda Vᵀ, of which only products with the factors are needed:
//
//	X  = (m_A + U Lambda VᵀB) R_B               Y  = (m_B + V Lambdaᵀ UᵀA) R_A
//	ΔA = -eta/(2s) X (XᵀX)^{-1/2} R_B           ΔB = -eta/(2s) Y (YᵀY)^{-1/2} R_A
//
// and the right Lambda maximises the dual function, -(‖X‖_* + ‖Y‖_*) eta/2 in nuclear norms. The ascent goes from the Lambda of the
// step before (it changes as slowly as the momentum) to the maximum of the quadratic function below the dual one that touches it
// there: with C_A = UᵀA R_A and C_B = VᵀB R_B, a Sylvester equation for the change of Lambda,
//
//	S_A δ + δ S_B = Uᵀ (ΔA Bᵀ + A ΔBᵀ) V/(eta/2),   S_A = C_A (YᵀY)^{-1/2} C_Aᵀ,   S_B = C_B (XᵀX)^{-1/2} C_Bᵀ.
//
// There is no step length to choose, and every one goes up. (Of steps of one fixed length, as published, a hundred may do as well
// as these 3, and on a gradient of rank below r none do: TestOGDAscent.) All of it is in matrices of p, q and r rows.
// Where the gradient has a rank below r, the maximum lies where X or Y is singular and its polar factor jumps; the roots'
// ridge takes singular values below 3e-3 of the Frobenius norm to less than one there.
//
// The ascent leaves up to 4e-3 of ‖ΔW‖ along the past directions. Past tasks want none. So the smallest change of ΔA Bᵀ and A ΔBᵀ
// follows that makes Uᵀ W V what it was, by Newton's method on the whole change of W, in which the second-order term ΔA ΔBᵀ and
// the decay are included: what is left is float32 rounding of the factors (TestOGDKeepsDirections). A step goes down as far
// as 99.6 % of the dual bound or more (TestOGDBest).
// The guard is lora-muon's: its factor on ΔA is a smaller trust region of that half.
// A gauge changes neither the constraint nor, to first order, the step on W (TestOGDGauge).
// Cost a pair beside lora-muon's: 10 (m p + n q) r operations and, in small matrices, 4 roots of either side, 3 Sylvester
// equations, and 4 in float64.
// Ref: Cesista 2026, LoRA-Muon-OGD; Lu et al. 2026, Muon-OGD, arXiv 2605.08949. For the ascent's steps, iteratively reweighted
// least squares: Mohan and Fazel 2012, JMLR 13.
type loraMuonOGDRule struct {
	loraMuonRule
	// left and right are the number of directions, columns of U and V, of the layers that follow the rule.
	left, right int
}

const (
	// ogdSteps and ogdExactSteps are the steps of ascent on Lambda in each step of the optimizer.
	ogdSteps, ogdExactSteps = 3, 16
	// ogdCorrections are the Newton steps that follow.
	ogdCorrections = 4
	// ogdRidge and ogdExactRidge are added to XᵀX, relative to the norm of that of the gradient before its shift. Where all of a
	// gradient is forbidden, what the shift leaves of it is rounding, which this keeps small.
	ogdRidge, ogdExactRidge = 1e-6, 1e-10
)

func (loraMuonOGDRule) Name() string { return loraMuonOGDName }

func (r loraMuonOGDRule) at(store mlmodel.StoreProvider, spec param.Spec) (Rule, error) {
	r.left, r.right = Protected(store, spec.Layer)
	if r.left == 0 {
		return r, nil
	}
	for name, width := range map[string]int{"U": spec.FanOut, "V": spec.FanIn} {
		if dims := store.Store().GetVariable(protectedPath(spec.Layer, name)).Shape().Dimensions; len(dims) != 2 || dims[1] != width {
			return nil, fmt.Errorf("the protected directions %s of layer %s have the shape %v, not of width %d", name, spec.Layer, dims, width)
		}
	}
	return r, nil
}

func (r loraMuonOGDRule) State(dims [][]int) []Slot {
	slots := r.loraMuonRule.State(dims)
	if r.left > 0 {
		slots = append(slots, Slot{"lambda", 0, []int{dims[0][0], r.left, r.right}})
	}
	return slots
}

// Flops counts, like lora-muon's, an upper bound.
func (r loraMuonOGDRule) Flops(dims [][]int) int64 {
	total := r.loraMuonRule.Flops(dims)
	if r.left == 0 {
		return total
	}
	m, n, rank := int64(dims[0][1]), int64(dims[1][1]), int64(dims[0][2])
	past := 10 * (m*int64(r.left) + n*int64(r.right)) * rank
	roots := 2 * (ogdSteps + 1) * rootFlops(int(rank))
	equations := ogdSteps*sylvesterFlops(r.left, r.right, false) + ogdCorrections*sylvesterFlops(r.left, r.right, true)
	return total + int64(dims[0][0])*(past+roots+equations)
}

func (r loraMuonOGDRule) Update(s *Step, values, grads []*Node) []*Node {
	if r.left == 0 {
		return r.loraMuonRule.Update(s, values, grads)
	}
	a, b := values[0], values[1]
	mA, mB := r.moments(s, grads)
	rootA, rootB := s.inverseRoots(a, b)
	eta, k := r.lengths(s)
	guard := OnesLike(spectralBound(rootA))
	if r.guard {
		guard = guardFactor(halfSteps(eta, productBound(rootA, rootB)))
	}
	u, v := s.directions()
	c := &constrained{
		s: s, a: half{root: rootA, past: u, seen: timesTransposed(Transpose(a, 1, 2), u)},
		b: half{root: rootB, past: v, seen: timesTransposed(Transpose(b, 1, 2), v)}, guard: guard,
	}
	scale := c.split(timesTransposed(rootB, mA), timesTransposed(rootA, mB), s.State("lambda"))
	c.ascend()
	s.SetState("lambda", Mul(c.lambda, scale))

	halfEta := Div(MulScalar(eta, 0.5), k)
	decayed := 2 * r.weightDecay * s.Group.Scale / widthScale(r.scale, s.Group.FanOut, s.Group.FanIn)
	c.correct(decayed, Div(halfEta, k))
	return []*Node{
		advance(a, k, times(Mul(rootB, Mul(halfEta, guard)), c.a.step())),
		advance(b, k, times(Mul(rootA, halfEta), c.b.step())),
	}
}

// half is one half of a constrained step, of A or of B, in the wide form. Of A: ΔA = -(rootB·step)ᵀ up to its length.
type half struct {
	root  *Node // (AᵀA)^{-1/2} [k, r, r]
	past  *Node // Uᵀ [k, p, m], orthonormal rows
	seen  *Node // AᵀU [k, r, p]
	inner *Node // rootA AᵀU, what orthonormal coordinates of A see of the past directions

	free   *Node // the gradient (m_A R_B)ᵀ without its part along U [k, r, m]
	along  *Node // and that part, as coordinates (m_A R_B)ᵀ U [k, r, p]
	leak   *Node // what rounding leaves of it in free
	square *Node // free·freeᵀ [k, r, r], with the ridge
	// weight is (XᵀX)^{-1/2} [k, r, r] of the shifted gradient, and moved what the step does along U, [k, r, p].
	weight, moved *Node
}

// step returns the half step [k, r, m], whose coordinates along U are those in moved. The weight can be so large, where
// everything but rounding is along U, that what leaked into free counts.
func (h half) step() *Node {
	return Add(times(h.weight, h.free), times(Sub(h.moved, times(h.weight, h.leak)), h.past))
}

// constrained is the step of a group under its constraint.
type constrained struct {
	s      *Step
	a, b   half
	guard  *Node // [k, 1, 1], the factor on the half of A
	lambda *Node // [k, p, q], in the units of the scaled gradients
}

// split takes the gradients (m_A R_B)ᵀ and (m_B R_A)ᵀ apart, divided by the largest of their elements as is the multiplier to
// start from, and returns that scale [k, 1, 1].
func (c *constrained) split(gradA, gradB, lambda *Node) (scale *Node) {
	largest := Max(largestEntry(gradA), largestEntry(gradB))
	scale = orOne(largest)
	ridge := ogdRidge
	if c.s.exact {
		ridge = ogdExactRidge
	}
	for _, x := range []struct {
		h    *half
		grad *Node
	}{{&c.a, gradA}, {&c.b, gradB}} {
		h, grad := x.h, Div(x.grad, scale)
		h.inner = times(h.root, h.seen)
		h.along = timesTransposed(grad, h.past)
		h.free = Sub(grad, times(h.along, h.past))
		h.leak = timesTransposed(h.free, h.past)
		_, length := byLength(timesTransposed(grad, grad))
		h.square = Add(timesTransposed(h.free, h.free), Mul(identities(h.root), MulScalar(length, ridge)))
	}
	zero := Equal(largest, ZerosLike(largest))
	c.lambda = Where(BroadcastToShape(zero, lambda.Shape()), ZerosLike(lambda), Div(lambda, scale))
	return scale
}

// ascend goes up the dual function from the stored multiplier.
func (c *constrained) ascend() {
	steps := ogdSteps
	if c.s.exact {
		steps = ogdExactSteps
	}
	for range steps {
		c.climb(c.shift())
	}
	c.shift()
}

// climb takes the multiplier to the maximum of the quadratic function below the dual one at a step of the given violation.
func (c *constrained) climb(violation *Node) {
	weighted := func(h, other half) *Node { return inner(h.inner, times(other.weight, h.inner)) }
	// The half of A sees V through B, and that of B sees U through A.
	sA, sB := weighted(c.a, c.b), Mul(weighted(c.b, c.a), c.guard)
	c.lambda = Sub(c.lambda, sylvester(sA, sB, violation))
}

// shift finds the halves of the step for the multiplier, and returns what they do to Uᵀ W V, in units of -eta/2: [k, p, q].
func (c *constrained) shift() *Node {
	weigh := func(h *half, shift *Node) {
		along := Add(h.along, shift)
		h.weight = c.s.InvSqrt(Add(h.square, timesTransposed(along, along)))
		h.moved = times(h.weight, along)
	}
	weigh(&c.a, timesTransposed(c.b.inner, c.lambda))
	weigh(&c.b, times(c.a.inner, c.lambda))
	return c.violation()
}

// violation returns Uᵀ (ΔA Bᵀ + A ΔBᵀ) V in units of -eta/2.
func (c *constrained) violation() *Node {
	return Add(Mul(inner(c.a.moved, c.b.inner), c.guard), inner(c.a.inner, c.b.moved))
}

// correct makes Uᵀ W V what it was before the step, by Newton steps on the whole change of it, the decay of decayed·A Bᵀ
// included; length is eta/(2k²), that of the halves over k. In float64, which is cheap for small matrices: with more directions
// than rank some of the change is of second order only, and float32 leaves 1e-4 of it.
func (c *constrained) correct(decayed float64, length *Node) {
	wide := func(x *Node) *Node { return as(dtypes.Float64, x) }
	guard := wide(c.guard)
	length = wide(length)
	rootA, rootB := wide(c.a.root), wide(c.b.root)
	seenA, seenB := wide(c.a.seen), wide(c.b.seen)
	firstA, firstB := times(rootA, seenA), times(rootB, seenB)
	movedA, movedB := wide(c.a.moved), wide(c.b.moved)
	decay := MulScalar(inner(seenA, seenB), decayed)
	for range ogdCorrections {
		deltaA, deltaB := Mul(times(rootB, movedA), guard), times(rootA, movedB) // ΔAᵀU and ΔBᵀV over their length
		change := Add(Add(inner(deltaA, seenB), inner(seenA, deltaB)), Sub(decay, Mul(inner(deltaA, deltaB), length)))
		// What the old coordinates see of the past directions in the new factors.
		innerA := Sub(firstA, Mul(times(rootA, deltaA), length))
		innerB := Sub(firstB, Mul(times(rootB, deltaB), length))
		z := sylvester(gramOf(innerA), Mul(gramOf(innerB), Square(guard)), change)
		movedA = Sub(movedA, Mul(timesTransposed(innerB, z), guard))
		movedB = Sub(movedB, times(innerA, z))
	}
	c.a.moved, c.b.moved = as(c.a.moved.DType(), movedA), as(c.b.moved.DType(), movedB)
}

// inner returns xᵀy of x [k, r, p] and y [k, r, q].
func inner(x, y *Node) *Node { return times(Transpose(x, 1, 2), y) }
