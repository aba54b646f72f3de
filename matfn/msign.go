package matfn

import (
	"slices"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Form is how a function orders its products. All forms of a function give the same result up to rounding.
type Form int

const (
	// Auto takes the form that costs least (Msign) or that is accurate for any input (the clips).
	Auto Form = iota
	// Direct iterates on the matrix itself: 4nm² + 2m³ operations a step for m <= n.
	Direct
	// Gram iterates on the small Gram matrix and multiplies into the matrix once at the end: 8m³ operations a step, and
	// 4nm² for every few steps.
	Gram
	// Projected is a singular-value clip by projectors onto the left singular vectors beyond a bound, which come from the sign of
	// bound·I - (W Wᵀ)^{1/2}. The default: 10 % more products than Nested, accurate at any norm of the input, and W itself comes
	// back if no singular value is beyond a bound.
	Projected
	// Nested is a singular-value clip by one polar factor inside another, as the formulas are usually written. It loses digits
	// as the norm of the input grows above the bound.
	Nested
	// Blockwise caps singular values by the sign of [[b I, W], [Wᵀ, b I]], of which the blocks are carried through the
	// iteration: 2.6 times the products of Projected for m = n, and growing with the cube of the longer side. As accurate as
	// Projected; a lower bound is that of Projected.
	Blockwise
)

// Option changes how a matrix function is computed, not what it is.
type Option func(*config)

type config struct {
	schedule Schedule
	finish   int
	form     Form
	exact    bool
}

// WithSchedule replaces PolarExpress8. Msign panics for a schedule that does not validate.
func WithSchedule(schedule Schedule) Option {
	return func(c *config) { c.schedule = schedule }
}

// WithExactFinish adds 6 Newton-Schulz steps, for callers that need singular values within 1e-5 of one: after PolarExpress8 all
// above 5e-6·‖x‖_F are (TestScheduleRanges), and in float32 the polar factor is right to 1e-3 up to condition number 1e4
// (TestMsignExactFinish). The number is fixed and does not wait until ‖X Xᵀ - I‖ stops falling, since a loop has no gradient. The steps
// also amplify rounding in directions of singular value zero 43-fold: not for matrices without full rank, for which
// there is WithExact.
func WithExactFinish() Option {
	return func(c *config) { c.finish = finishSteps }
}

// WithForm fixes the order of the products instead of choosing the cheaper one.
func WithForm(form Form) Option {
	return func(c *config) { c.form = form }
}

// resolve applies options to the defaults of a function, which takes finish Newton-Schulz steps after the schedule and
// knows the given forms besides Auto. Panics, naming the function, for a schedule or form that cannot be.
func resolve(function string, finish int, forms []Form, opts []Option) config {
	c := config{schedule: PolarExpress8, finish: finish}
	for _, opt := range opts {
		opt(&c)
	}
	if err := c.schedule.Validate(); err != nil {
		exceptions.Panicf("matfn.%s: %v", function, err)
	}
	if c.form != Auto && !slices.Contains(forms, c.form) {
		exceptions.Panicf("matfn.%s: unknown form %d", function, c.form)
	}
	return c
}

// steps returns all steps of one polar factor.
func (c config) steps() Schedule {
	if c.exact {
		return exactPolar()
	}
	return append(append(Schedule{}, c.schedule...), repeat(newtonSchulz, c.finish)...)
}

// Msign returns the polar factor U Vᵀ for the thin SVD x = U Σ Vᵀ; zero singular values stay zero, so zero gives zero.
//
// x [..., m, n], float32, float64, float16 or bfloat16 -> same shape and dtype; leading axes are a batch; half precision is
// computed in float32.
// Accuracy: 8 steps bring singular values above 1e-4·‖x‖_F into [0.99, 1.01] (TestMsignAccuracy), and leave in directions
// of singular value zero at most 2e-3 of rounding (TestMsignRankDeficient); WithExactFinish, on x of full rank, is within
// 1e-3 of the SVD up to condition number 1e4 (TestMsignExactFinish); WithExact see there and TestAccuracyTable. The scale of x
// does not matter from 1e-12 to 1e12 (TestMsignScale).
// Cost: MsignFlopsOf(m, n, opts...), at most MsignFlops(m, n, steps) unless a form or WithExact is asked for.
// NaN or Inf in a matrix makes all of that matrix NaN. Panics while building the graph if x has rank < 2 or is not floating
// point, or the schedule is empty or not finite.
// Ref: Amsel et al. 2025, arXiv 2505.16932. Why the Gram form starts anew every few steps: see maxGain.
func Msign(x *Node, opts ...Option) *Node {
	c := resolve("Msign", 0, []Form{Direct, Gram}, opts)
	dtype := x.DType()
	x = c.working("Msign", x)
	if x.Shape().Size() == 0 {
		return ConvertDType(x, dtype)
	}
	return ConvertDType(c.msign(x, nil), dtype)
}

// msign is Msign in the dtype of x, which is not empty. bound, shaped as the batch axes, is an upper bound of the spectral norm
// to divide by; without one (nil) it is the Frobenius norm, or schattenBound for the exact functions.
func (c config) msign(x, bound *Node) *Node {
	m, n, steps := x.Shape().Dim(-2), x.Shape().Dim(-1), c.steps()
	tall := m > n
	if tall {
		x = transposed(x)
		m, n = n, m
	}
	// Inside a clip, whose form is none of Msign's, it is the direct one: ten times as accurate where small singular values count.
	gram := c.form == Gram || c.form == Auto && gramFlops(m, n, steps) < directFlops(m, n, len(steps))
	var squares *Node
	if bound == nil {
		x = scaleBy(x, Reciprocal(maxAbs(x)))
		if c.exact {
			squares = schattenBound(productNT(x, x))
		} else {
			squares, _ = nonzero(sumSquares(x))
		}
	} else {
		bound, _ = nonzero(bound)
		x, squares = scaleBy(x, Reciprocal(bound)), OnesLike(bound)
	}
	switch {
	case gram:
		x = iterateGram(x, squares, steps)
	case bound == nil:
		x = iterateDirect(scaleBy(x, Reciprocal(Sqrt(squares))), steps)
	default:
		x = iterateDirect(x, steps)
	}
	if tall {
		x = transposed(x)
	}
	return x
}

// iterateDirect takes the steps on a wide x of spectral norm at most one.
func iterateDirect(x *Node, steps Schedule) *Node {
	for _, p := range steps {
		g := productNT(x, x)
		q := Add(MulScalar(g, p.B), MulScalar(product(g, g), p.C))
		x = Add(MulScalar(x, p.A), product(q, x))
	}
	return x
}

// iterateGram takes the steps on the Gram matrix of a wide x whose squares add up to squares.
func iterateGram(x, squares *Node, steps Schedule) *Node {
	eye := identity(x, x.Shape().Dim(-2))
	for i, segment := range segments(steps) {
		g := productNT(x, x)
		if i == 0 {
			g = scaleBy(g, Reciprocal(squares))
		}
		p := gramProduct(g, eye, segment)
		if i == 0 {
			p = scaleBy(p, Reciprocal(Sqrt(squares)))
		}
		x = product(p, x)
	}
	return x
}

// gramProduct returns the product of the steps' factors Q = A·I + B·G + C·G² while G follows as Q G Q.
func gramProduct(g, eye *Node, steps Schedule) (total *Node) {
	for i, p := range steps {
		q := Add(MulScalar(g, p.B), MulScalar(product(g, g), p.C))
		q = Add(q, MulScalar(eye, p.A))
		if i == 0 {
			total = q
		} else {
			total = product(q, total)
		}
		if i+1 < len(steps) {
			g = product(product(q, g), q)
		}
	}
	return total
}

// maxGain bounds how much a segment amplifies small singular values before its last step. Rounding leaves eigenvalues of
// about -1e-7 in a Gram matrix of norm one; a gain of 300 makes that -1e-2, which is still harmless, and much more would
// diverge.
const maxGain = 300

// segments splits a schedule into runs, each iterated on one Gram matrix that is then formed anew from the matrix.
func segments(steps Schedule) (out []Schedule) {
	start, gain := 0, 1.0
	for i, p := range steps {
		if i > start && gain > maxGain {
			out = append(out, steps[start:i])
			start, gain = i, 1
		}
		gain *= max(p.A, 1)
	}
	return append(out, steps[start:])
}
