package manifold

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/nearest"
	"github.com/polargo/polar/matfn"
)

// The names of the solvers.
const (
	Oracle      = "oracle"      // ignores the cone; the retraction throws part of the step away
	Alternating = "alternating" // projects on the cone and on the norm's best direction in turn
	PDHG        = "pdhg"        // primal-dual hybrid gradient
	Dual        = "dual"        // ascent on the multipliers of the cone
)

// Solvers lists the solvers.
func Solvers() []string { return []string{Oracle, Alternating, PDHG, Dual} }

// The norms that bound a direction.
const (
	Spectral  = "spectral"
	Frobenius = "frobenius"
)

// Norms lists the norms.
func Norms() []string { return []string{Spectral, Frobenius} }

// Solver finds the direction D with the smallest <G, D> among those of norm at most one in the tangent cone of a set at W.
//
// In the Frobenius norm the first alternating step is the solution, and the others only repeat it.
type Solver struct {
	// Name is one of Solvers, Norm one of Norms.
	Name, Norm string
	// Steps is the number of iterations, for PDHG the most; 0 chooses DefaultSteps. Oracle takes none.
	Steps int
}

// DefaultSteps returns the iterations of a solver when none are asked for: one for Alternating, as published; for PDHG and Dual
// what the 1 % of TestOptimum needs, with a margin.
func DefaultSteps(solver string) int {
	switch solver {
	case PDHG:
		return 128
	case Dual:
		return 256
	case Alternating:
		return 1
	}
	return 0
}

// Validate returns an error for an unknown solver or norm, which lists the known ones and the nearest, or for steps that the
// solver cannot take.
func (s Solver) Validate() error {
	switch {
	case !slices.Contains(Solvers(), s.Name):
		return nearest.Unknown("solver", s.Name, Solvers())
	case !slices.Contains(Norms(), s.Norm):
		return nearest.Unknown("norm", s.Norm, Norms())
	case s.Steps < 0:
		return fmt.Errorf("solver %s: steps must be 0 or more, got %d", s.Name, s.Steps)
	case s.Name == Oracle && s.Steps > 0:
		return fmt.Errorf("solver oracle takes no steps, got %d", s.Steps)
	}
	return nil
}

// resolved returns the solver with its number of steps chosen.
func (s Solver) resolved() Solver {
	if s.Steps == 0 {
		s.Steps = DefaultSteps(s.Name)
	}
	return s
}

// iterationOptions are the options of matrix functions inside of iterations, where the polar factor of training is accurate
// enough; the cone itself is built with the options given.
func iterationOptions(opts []matfn.Option) []matfn.Option {
	return append([]matfn.Option{matfn.WithSchedule(matfn.PolarExpress8)}, opts...)
}

// Memory returns how many arrays of the weight's shape the solver wants to see again in the next step: PDHG its direction and
// its multiplier, Dual its multiplier.
func (s Solver) Memory() int {
	switch s.Name {
	case PDHG:
		return 2
	case Dual:
		return 1
	}
	return 0
}

// Direction returns the direction at w for the gradient g, and what the solver wants to see again as start in the next step.
//
// w and g [..., m, n] -> the same shape, in the dtype of w. w should lie in the set: at another matrix the cone means little. start is what the step before returned, zeros for the first step, or nil to remember nothing;
// where it is worse than a start from nothing it is not used. A zero g gives zero for Oracle and Alternating.
//
// Accuracy: the norm of D is at most 1.001; PDHG and Dual reach 99 % of the optimum on the stored problems, Alternating and
// Oracle what bench/results/manifold-solvers.md says (TestOptimum). D is in the cone only as far as the solver has come, with
// Alternating a part is not; the retraction takes care of it. Cost: DirectionFlops. Panics while building the graph for a set
// or solver that does not validate, shapes that differ and a start of another length.
// Ref: see the package.
func (s Solver) Direction(set Set, w, g *Node, start []*Node, opts ...matfn.Option) (d *Node, next []*Node) {
	if err := s.Validate(); err != nil {
		exceptions.Panicf("manifold.Solver.Direction: %v", err)
	}
	set.check("Solver.Direction", w)
	checkPair("Solver.Direction", set.Symmetric(), w, g)
	if start != nil && len(start) != s.Memory() {
		exceptions.Panicf("manifold.Solver.Direction: got %d arrays to start solver %s from, want %d", len(start), s.Name, s.Memory())
	}
	s = s.resolved()
	dtype := w.DType()
	in, out := orient(set, w)
	inward := func(x *Node) *Node { return in(working(x)) }
	p := newProblem(set, s.Norm, inward(w), inward(g), s.Name != Oracle, opts)
	var from []*Node
	for _, x := range start {
		from = append(from, inward(x))
	}
	switch s.Name {
	case Oracle:
		d = p.best(Neg(p.g))
	case Alternating:
		d = p.alternating(s.Steps)
	case PDHG:
		d, next, _ = p.pdhg(s.Steps, from)
	case Dual:
		d, next = p.dual(s.Steps, from)
	}
	for i, x := range next {
		next[i] = ConvertDType(out(x), dtype)
	}
	return ConvertDType(out(d), dtype), next
}

// problem is the search for a direction at a square or wide weight: min <g, D>, D in the cone, ‖D‖ <= 1. g is scaled so that
// its singular values are one in the root mean square (its norm is one, in the Frobenius norm), as those of D are; then the
// solvers' step sizes do not depend on the gradient or the shape.
type problem struct {
	cone cone
	norm string
	g    *Node
	opts []matfn.Option // of the iterations
}

func newProblem(set Set, norm string, w, g *Node, withCone bool, opts []matfn.Option) problem {
	p := problem{norm: norm, opts: iterationOptions(opts)}
	if withCone {
		p.cone = set.coneRelative(w, DefaultTol, opts)
		p.cone.opts = p.opts
	}
	p.cone.symmetric = set.Symmetric()
	size := 1.0
	if norm == Spectral {
		size = math.Sqrt(float64(g.Shape().Dim(-2)))
	}
	if p.cone.symmetric {
		g = symmetric(g)
	}
	p.g = withNorm(g, size)
	return p
}

// best returns the D of norm one with the largest <x, D>, x any direction (the linear minimisation oracle at -x).
func (p problem) best(x *Node) *Node {
	if p.norm == Frobenius {
		return withNorm(x, 1)
	}
	d := matfn.Msign(x, p.opts...)
	if p.cone.symmetric {
		return symmetric(d)
	}
	return d
}

// dualNorm returns <x, best(x)>, the dual norm of x, shaped as the batch axes.
func (p problem) dualNorm(x *Node) *Node { return inner(x, p.best(x)) }

// bounded returns the D of norm at most one that is nearest to x.
func (p problem) bounded(x *Node) *Node {
	switch {
	case p.norm == Frobenius:
		norm := Sqrt(sumSquares(x))
		return scaleBy(x, Reciprocal(Max(norm, OnesLike(norm))))
	case p.cone.symmetric:
		return matfn.EigClip(x, -1, 1, p.opts...)
	}
	return matfn.SpectralHardcap(x, 1, p.opts...)
}

// alternating projects on the cone and takes the norm's best direction, in turn, from -g.
func (p problem) alternating(steps int) *Node {
	d := Neg(p.g)
	for i := range steps {
		if i > 0 && p.norm == Spectral {
			d = cleaned(d)
		}
		d = p.best(p.projected(d))
	}
	return d
}

// projected returns the projection of a direction of the gradient's size onto the cone, zero where nothing but rounding is left of
// it: a polar factor would make a whole step of that.
func (p problem) projected(x *Node) *Node {
	rounding := 1e-5
	if x.DType() == dtypes.Float64 {
		rounding = 1e-12
	}
	out := p.cone.project(x)
	left := GreaterThan(sumSquares(out), MulScalar(sumSquares(x), rounding*rounding))
	return scaleBy(out, ConvertDType(left, x.DType()))
}

// cleaned takes small singular values of a polar factor to zero: s becomes 2.5 s³ - 1.5 s⁵, which is flat at 0 and at 1. Where a
// matrix has no singular value, rounding leaves one of 1e-7, and the polar factor makes 2e-3 of it; one more polar factor of
// that would make it 1, in a direction that means nothing.
func cleaned(d *Node) *Node {
	gram := timesTransposed(d, d)
	return times(Sub(MulScalar(gram, 2.5), MulScalar(times(gram, gram), 1.5)), d)
}

// choose takes from each batch entry a where first is true, b elsewhere.
func choose(first, a, b *Node) *Node {
	if first.IsScalar() {
		return Where(first, a, b)
	}
	share := ConvertDType(first, a.DType())
	return Add(scaleBy(a, share), scaleBy(b, OneMinus(share)))
}
