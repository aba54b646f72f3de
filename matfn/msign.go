package matfn

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Form is how Msign orders its products. Both give the same result up to rounding.
type Form int

const (
	// Auto takes whichever form costs fewer operations for the shape and the schedule.
	Auto Form = iota
	// Direct iterates on the matrix itself: 4nm² + 2m³ operations a step for m <= n.
	Direct
	// Gram iterates on the small Gram matrix and multiplies into the matrix once at the end: 8m³ operations a step, and
	// 4nm² for every few steps.
	Gram
)

// Option changes what Msign does.
type Option func(*msignConfig)

type msignConfig struct {
	schedule Schedule
	finish   bool
	form     Form
}

// WithSchedule replaces PolarExpress8. Msign panics for a schedule that does not validate.
func WithSchedule(schedule Schedule) Option {
	return func(c *msignConfig) { c.schedule = schedule }
}

// WithExactFinish adds 6 Newton-Schulz steps, for callers that need singular values within 1e-5 of one. They also amplify
// rounding in directions of singular value zero 43-fold: not for matrices without full rank.
func WithExactFinish() Option {
	return func(c *msignConfig) { c.finish = true }
}

// WithForm fixes the order of the products instead of choosing the cheaper one.
func WithForm(form Form) Option {
	return func(c *msignConfig) { c.form = form }
}

// resolve applies options to the defaults and returns all steps to take.
func resolve(opts []Option) (steps Schedule, form Form) {
	c := msignConfig{schedule: PolarExpress8}
	for _, opt := range opts {
		opt(&c)
	}
	if err := c.schedule.Validate(); err != nil {
		exceptions.Panicf("matfn.Msign: %v", err)
	}
	if c.form < Auto || c.form > Gram {
		exceptions.Panicf("matfn.Msign: unknown form %d", c.form)
	}
	steps = c.schedule
	if c.finish {
		steps = append(append(Schedule{}, steps...), repeat(newtonSchulz, finishSteps)...)
	}
	return steps, c.form
}

// Msign returns the polar factor U Vᵀ for the thin SVD x = U Σ Vᵀ; zero singular values stay zero, so zero gives zero.
//
// x [..., m, n], float32, float64, float16 or bfloat16 -> same shape and dtype; leading axes are a batch; half precision is
// computed in float32.
// Accuracy: 8 steps bring singular values above 1e-4·‖x‖_F into [0.99, 1.01] (TestMsignAccuracy), and leave in directions
// of singular value zero at most 2e-3 of rounding (TestMsignRankDeficient); WithExactFinish, on x of full rank, is within
// 1e-3 of the SVD up to condition number 1e4 (TestMsignExactFinish). The scale of x does not matter from 1e-12 to 1e12 (TestMsignScale).
// Cost: MsignFlopsOf(m, n, opts...), at most MsignFlops(m, n, steps) unless a form is asked for. NaN or Inf in a matrix makes all of that matrix NaN.
// Panics while building the graph if x has rank < 2 or is not floating point, or the schedule is empty or not finite.
// Ref: Amsel et al. 2025, arXiv 2505.16932. Why the Gram form starts anew every few steps: see maxGain.
func Msign(x *Node, opts ...Option) *Node {
	steps, form := resolve(opts)
	dtype := x.DType()
	x = working("Msign", x)
	if x.Shape().Size() == 0 {
		return ConvertDType(x, dtype)
	}
	m, n := x.Shape().Dim(-2), x.Shape().Dim(-1)
	tall := m > n
	if tall {
		x = TransposeAllDims(x, swapped(x.Rank())...)
		m, n = n, m
	}
	if form == Auto {
		form = Direct
		if gramFlops(m, n, steps) < directFlops(m, n, len(steps)) {
			form = Gram
		}
	}
	x = scaleBy(x, Reciprocal(maxAbs(x)))
	squares, _ := nonzero(sumSquares(x))
	if form == Gram {
		x = iterateGram(x, squares, steps)
	} else {
		x = iterateDirect(scaleBy(x, Reciprocal(Sqrt(squares))), steps)
	}
	if tall {
		x = TransposeAllDims(x, swapped(x.Rank())...)
	}
	return ConvertDType(x, dtype)
}

// swapped returns the permutation of the axes that exchanges the last two.
func swapped(rank int) []int {
	axes := make([]int, rank)
	for i := range axes {
		axes[i] = i
	}
	axes[rank-1], axes[rank-2] = rank-2, rank-1
	return axes
}

// iterateDirect takes the steps on a wide x of Frobenius norm one.
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
