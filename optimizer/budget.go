package optimizer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/matfn"
)

// The modes of the spectral budget: what becomes of a singular value sigma of s·A Bᵀ above beta.
const (
	// BudgetHardcap makes it beta: s·‖A Bᵀ‖ <= beta after every step.
	BudgetHardcap = "hardcap"
	// BudgetClippedDecay makes it (1 - l)·sigma + l·beta: a bound that gives way, at which steps of norm eta settle at
	// beta + (1 - l)/l·eta. Of a product of more than ten times beta it takes l of what exceeds a tenth of its norm.
	BudgetClippedDecay = "clipped-decay"
)

// BudgetModes lists the modes of the spectral budget.
func BudgetModes() []string { return []string{BudgetHardcap, BudgetClippedDecay} }

// DefaultBudgetDecay is l of clipped decay where nothing else is asked for: a step of eta settles 9·eta above the budget.
const DefaultBudgetDecay = 0.1

// budgetSquarings makes the estimate of a norm a Schatten norm of order 2²⁵, which is above the norm by less than 1e-7 of it
// for any rank up to 32: log(r)/2²⁵.
const budgetSquarings = 24

// budget keeps the product of a pair within a bound. It is applied to the new factors of every step, whatever the rule; moments
// and other state stay as they are.
//
// With S_A = AᵀA, S_B = BᵀB and L Lᵀ = S_A the singular values of A Bᵀ are the square roots of the eigenvalues of the
// symmetric r x r matrix M = Lᵀ S_B L. A function f of the singular values is then a factor between A and Bᵀ:
//
//	U f(Σ)Σ Vᵀ = A f(X) Bᵀ,   X = S_B S_A,   which is split evenly, A ← A E, B ← B Eᵀ with E = g(X), g = √f.
//
// E = I - S_B L χ(M) Lᵀ with χ(x) = (1 - g(x))/x needs no inverse of a factor: χ is zero up to the bound, and 1/x is taken of
// the larger one of x and the bound. So a zero or rank-deficient factor is no special case, and E changes with the gauge as it
// should, (A G)(G⁻¹ E G) = (A E) G: a budget does not break invariance, and leaves ‖A‖/‖B‖ about where it was.
//
// Accuracy: s·‖A Bᵀ‖ <= beta·(1 + 1e-5) after the step, and singular values below beta within 1e-5·beta of what they were, for
// ranks 1 to 32, condition numbers up to 1e3 a factor and overshoots up to 1e6; within 1.4e-7 for overshoots up to 8
// (TestBudgetOracle). Float32 cannot hold a product more exactly than about 1e-7·‖A‖·‖B‖, which shows where A and B nearly
// cancel (TestBudgetAwkward). Pairs within the budget keep their bits (TestBudgetLeavesAlone). NaN stays NaN. Directions
// that lora-muon-ogd protects are not spared.
// Cost a pair: see BudgetFlops; Gram matrices and r x r work are float64, and what is only needed above the budget is only done
// for groups with a pair above it.
type budget struct {
	bound float64 // on ‖A Bᵀ‖, beta/s
	decay float64 // l: 1 caps
}

// bounded returns the new values of a group with the products of its pairs within the budget; other groups have none.
func (c Config) bounded(gr *Group, values []*Node) []*Node {
	if c.SpectralBudget == 0 || gr.to.rule.Layout() != Paired {
		return values
	}
	b := budget{bound: c.SpectralBudget / gr.Scale, decay: 1}
	if c.SpectralBudgetMode == BudgetClippedDecay {
		b.decay = c.SpectralBudgetDecay
	}
	return b.apply(values[0], values[1])
}

// checkBudget reports settings of the spectral budget that cannot work.
func (c Config) checkBudget(e *entry, add func(string, ...any)) {
	if !(c.SpectralBudget >= 0) || math.IsInf(c.SpectralBudget, 0) {
		add("spectral budget must be 0 or more and finite, got %g", c.SpectralBudget)
	}
	if c.SpectralBudget == 0 {
		return
	}
	if !e.info().Pairs {
		add("a spectral budget is only for low-rank pairs, which it does not train")
	}
	if !slices.Contains(BudgetModes(), c.SpectralBudgetMode) {
		add("unknown mode %q of the spectral budget; known: %s", c.SpectralBudgetMode, strings.Join(BudgetModes(), ", "))
	}
	if l := c.SpectralBudgetDecay; c.SpectralBudgetMode == BudgetClippedDecay && !(l > 0 && l <= 1) {
		add("decay of the spectral budget must be in (0, 1], got %g", l)
	}
}

// A pass reaches down to a budgetReach-th of the product's norm, so that what it does to the largest singular values does not
// drown those at the bound in rounding, and roots need few steps; a larger overshoot takes several. budgetTolerance is the
// excess at which another pass is taken, budgetPasses the most of a step: enough for an overshoot of 10⁹.
const budgetReach, budgetTolerance, budgetPasses = 10, 1e-5, 10

// budgetSigns tells singular values above the bound from those below. What is closer to it than 1e-8 of the largest square,
// budgetReach², may be treated as either, at the cost of that distance.
var budgetSigns = matfn.Optimal(1e-8, 15)

// budgetProducts counts the r x r products of scaling: two roots of 33, signs of 46 and a few more.
const budgetProducts = 2*33 + 46 + 12

// BudgetFlops returns the operations that a spectral budget adds to a step of one pair of fan-out m, fan-in n and rank r: while
// all products of its group are within the budget, and for a pass that brings them back, of which an ordinary step takes one.
func BudgetFlops(m, n, r int) (within, capped int64) {
	square, cube := int64(r)*int64(r), int64(r)*int64(r)*int64(r)
	within = 2*int64(m+n)*square + 2*(1+budgetSquarings)*cube
	return within, 2*within + 2*int64(m+n)*square + 2*budgetProducts*cube
}

// apply returns A [k, m, r] and B [k, n, r] with every product within the budget.
func (b budget) apply(a, c *Node) []*Node {
	g := a.Graph()
	passes := int32(budgetPasses)
	if b.decay < 1 {
		passes = 1
	}
	gramA, gramB, norm := measure(a, c)
	over := GreaterThan(norm, Scalar(g, norm.DType(), b.bound))
	state := []*Node{Const(g, passes), norm, over, gramA, gramB, a, c}
	more := func(x []*Node) []*Node {
		return []*Node{LogicalAnd(LogicalAny(x[2]), GreaterThan(x[0], Const(g, int32(0))))}
	}
	// GoMLX keeps one node of a scalar for the whole graph, and only the function in which it was made and those inside can use
	// it. Built here first, all scalars belong to the graph itself; nothing of this is run.
	more(b.pass(state))
	loop := func(build func(x []*Node) []*Node) *Function {
		return NewClosure(g, func(*Graph) []*Node {
			x := make([]*Node, len(state))
			for i, s := range state {
				x[i] = Parameter(g, fmt.Sprint("state", i), s.Shape())
			}
			return build(x)
		})
	}
	return While(loop(more), loop(b.pass), state...)[5:]
}

// pass scales the factors of the pairs that are over the bound: from and to the passes that are left, ‖A Bᵀ‖ and whether it is
// too much [k, 1, 1], the Gram matrices [k, r, r] and the factors.
func (b budget) pass(x []*Node) []*Node {
	left, norm, over, gramA, gramB, a, c := x[0], x[1], x[2], x[3], x[4], x[5], x[6]
	wide, dtype := gramA.DType(), a.DType()
	bound := Scalar(a.Graph(), wide, b.bound)
	// The bound itself where it is almost in reach: what is left of a norm just above it would not be worth another pass.
	far := GreaterThan(norm, MulScalar(bound, 1.1*budgetReach))
	e := b.scaling(gramA, gramB, Where(far, DivScalar(norm, budgetReach), BroadcastToShape(bound, norm.Shape())))
	e = Where(BroadcastToShape(over, e.Shape()), e, identities(e))
	a, c = as(dtype, times(as(wide, a), e)), as(dtype, timesTransposed(as(wide, c), e))
	gramA, gramB, norm = measure(a, c)
	return []*Node{SubScalar(left, 1), norm, GreaterThan(norm, MulScalar(bound, 1+budgetTolerance)), gramA, gramB, a, c}
}

// measure returns AᵀA and BᵀB [k, r, r] in float64, and ‖A Bᵀ‖ [k, 1, 1].
func measure(a, c *Node) (gramA, gramB, norm *Node) {
	gramA, gramB = gramOf(as(dtypes.Float64, a)), gramOf(as(dtypes.Float64, c))
	return gramA, gramB, productNorm(gramA, gramB)
}

// scaling returns E [k, r, r] for the given bounds [k, 1, 1], of which the products are at most budgetReach times, from the Gram
// matrices of the factors.
func (b budget) scaling(gramA, gramB, bound *Node) *Node {
	eye := identities(gramA)
	// Eigenvalues from here on are between 1/budgetReach and budgetReach², where two steps make the root exact to rounding.
	inverseRoot := func(p *Node) *Node { return sharpen(sharpen(matfn.InvSqrt(p), p), p) }
	l := times(gramA, inverseCholesky(gramA, MulScalar(largestEntry(gramA), choleskyExactPivot)))
	lT := Transpose(l, 1, 2)
	middle := Div(times(gramB, l), Square(bound))
	squares := matfn.EigReLU(symmetrised(times(lT, middle)), 1, matfn.WithSchedule(budgetSigns)) // max(sigma, bound)²/bound²
	f := inverseRoot(squares)
	inverse := times(f, f)
	if b.decay < 1 {
		f = Add(MulScalar(eye, 1-b.decay), MulScalar(f, b.decay))
	}
	g := times(f, inverseRoot(f))
	return Sub(eye, times(middle, times(times(Sub(eye, g), inverse), lT)))
}

// productNorm returns ‖A Bᵀ‖ [k, 1, 1] from the Gram matrices of A and B [k, r, r], from above: the eigenvalues of S_A S_B are
// its squares, and the root of a high power's norm tends to the largest one. Zero gives zero.
func productNorm(gramA, gramB *Node) *Node {
	x := times(gramA, gramB)
	var logarithm *Node
	share := 0.5 // of the logarithm of the norm of x, which is the power 1/(2·share) of the first one
	for i := range budgetSquarings + 1 {
		if i > 0 {
			x = times(x, x)
		}
		var norm *Node
		x, norm = byLength(x)
		part := MulScalar(Log(norm), share) // minus infinity for zero
		if logarithm == nil {
			logarithm = part
		} else {
			logarithm = Add(logarithm, part)
		}
		share /= 2
	}
	return Exp(logarithm)
}

// keepBudget bounds the products of the pairs whose factors are updated one by one, by rules of elements, after their step;
// the groups of pairs have been bounded in theirs.
func (o *Optimizer) keepBudget(scope *mlmodel.Scope, g *Graph, groups []*Group) error {
	if o.cfg.SpectralBudget == 0 {
		return nil
	}
	var factors []*mlmodel.Variable
	for _, gr := range groups {
		if gr.to.rule.Layout() == Flat {
			for _, m := range gr.members {
				factors = append(factors, m.vars...)
			}
		}
	}
	pairs, err := pairGroups(scope, factors)
	if err != nil {
		return fmt.Errorf("optimizer %s: spectral budget: %w", o.cfg.Name, err)
	}
	for _, gr := range pairs {
		gr.assign(o.cfg.bounded(gr, gr.stack(o.cfg.dtype(), func(v *mlmodel.Variable) *Node { return v.NodeValue(g) })))
	}
	return nil
}
