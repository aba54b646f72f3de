package matfn

import (
	"sync"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// ZeroTol is the ratio of a singular value to the largest one below which the exact functions take it for zero; between
// half and twice of it they may do either.
const ZeroTol = 1e-10

// rootZeroTol is ZeroTol for the eigenvalues of the exact InvSqrt: a Gram matrix squares the condition number, and float64
// resolves 1e-16 of it.
const rootZeroTol = 1e-13

// clean leaves 1 where it is and takes small singular values to zero: an error e of either becomes about 7.5 e² and
// 2.5 e³. What is below 0.816 ends at zero, what is above at one.
var clean = Step{0, 2.5, -1.5}

// exactSchedule brings singular values above 2·tol to one and those below tol/2 to zero, relative to their bound.
func exactSchedule(tol float64, steps int) Schedule {
	return append(append(Schedule{}, Optimal(2*tol, steps)...), repeat(clean, 5)...)
}

// The schedules of the exact functions, in float64. The steps are as many as leave errors below 1e-3 above 2·tol, which the
// first clean step squares (TestExactSchedules).
var (
	exactPolar     = sync.OnceValue(func() Schedule { return exactSchedule(ZeroTol, 17) })
	exactProjector = sync.OnceValue(func() Schedule { return exactSchedule(rootZeroTol, 22) })
	exactRoot      = sync.OnceValue(func() Schedule { return Optimal(3e-7, 14) }) // 3e-7² is just below rootZeroTol
)

// WithExact computes in float64 and until nothing changes: singular values above ZeroTol of the largest end at one and
// smaller ones at zero, whatever the condition number. It takes the place of a schedule and its finish.
// Cost: 22 steps of float64 products where the default has 8 of float32.
func WithExact() Option { return func(c *config) { c.exact = true } }

// schattenBound returns an upper bound of the spectral norm of symmetric p [..., m, m], shaped as the batch axes: its
// Schatten 16-norm, at most m^{1/16} times the norm (1.54 for m = 1024), by three squarings. Zero gives one.
func schattenBound(p *Node) *Node {
	bound := OnesLike(sumSquares(p))
	power := 1.0
	for i := 0; ; i++ {
		squares, _ := nonzero(sumSquares(p))
		norm := Sqrt(squares)
		bound = Mul(bound, PowScalar(norm, power))
		if i == 3 {
			return bound
		}
		p = scaleBy(p, Reciprocal(norm))
		p = productNT(p, p)
		power /= 2
	}
}

// spectralBound returns an upper bound of the spectral norm of a wide x, shaped as the batch axes, at most m^{1/16} times the
// norm, as a constant of the autodiff: what divides by it does not depend on it. Zero gives one.
func spectralBound(x *Node) *Node {
	x = StopGradient(x)
	largest := maxAbs(x)
	x = scaleBy(x, Reciprocal(largest))
	return Mul(largest, Sqrt(schattenBound(productNT(x, x))))
}

// toFloat64 converts to the dtype of the exact functions.
func toFloat64(x *Node) *Node {
	if x.DType() == dtypes.Float64 {
		return x
	}
	return ConvertDType(x, dtypes.Float64)
}

// exactInvSqrt is InvSqrt without a ridge for p in float64, scaled to largest entry one.
func exactInvSqrt(p *Node) *Node {
	eye := identity(p, p.Shape().Dim(-1))
	p = symmetric(p)
	bound := schattenBound(p)
	p = scaleBy(p, Reciprocal(bound))
	// The root of zero is a large number on its way to none: zero eigenvalues become one first and are taken away again.
	zero := Sub(eye, symmetric(iterateDirect(p, exactProjector())))
	zero = productNT(zero, zero) // what rounding adds elsewhere, 1e-15, would hide eigenvalues of 1e-12; its square does not

	x := iterateRoot(Add(p, zero), eye, exactRoot(), 1) // Optimal has a safety factor of its own, which its last step leaves out
	x = symmetric(Sub(x, zero))
	return scaleBy(x, Reciprocal(Sqrt(bound)))
}
