package optimizer

import (
	"sync"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/matfn"
)

// What sylvester adds to the eigenvalues of a and b, relative to the sum of their norms: what rounding leaves of a zero one, and
// a bound of the amplification where both are singular.
const sylvesterShift, sylvesterExactShift = 1e-6, 1e-12

// The steps bring eigenvalues above the shift to one, those of float64 within 1e-14.
var (
	sylvesterSteps      = sync.OnceValue(func() matfn.Schedule { return signSchedule(sylvesterShift, 12, 1) })
	sylvesterExactSteps = sync.OnceValue(func() matfn.Schedule { return signSchedule(sylvesterExactShift, 20, 3) })
)

func signSchedule(floor float64, steps, finish int) matfn.Schedule {
	schedule := append(matfn.Schedule{}, matfn.Optimal(floor, steps)...)
	for range finish {
		schedule = append(schedule, matfn.Step{A: 1.875, B: -1.25, C: 0.375})
	}
	return schedule
}

// sylvester returns the solution z [k, p, q] of a z + z b = c for symmetric positive semidefinite a [k, p, p] and b [k, q, q]: the
// upper right block of sign([[a, c], [0, -b]]) is 2z, and odd polynomials take that matrix to its sign. Directions where both
// eigenvalues are below the shift are solved in part.
// Accuracy: what is left, c - a z - z b, is within 3e-4 of c where a and b are Gram matrices of condition number up to 1e4 and of any
// rank and c is of their range, 3e-10 in float64, and solving for what is left shrinks it as much again (TestSylvester).
// Cost: 6 (p+q)³ operations for each of 13 steps, 23 in float64.
// Ref: Roberts 1980, Linear model reduction and solution of the algebraic Riccati equation by use of the sign function.
func sylvester(a, b, c *Node) *Node {
	p, q := a.Shape().Dim(-1), b.Shape().Dim(-1)
	if c.Shape().Dim(-2) != p || c.Shape().Dim(-1) != q {
		exceptions.Panicf("sylvester: got %s for %s and %s", c.Shape(), a.Shape(), b.Shape())
	}
	shift, steps := sylvesterShift, sylvesterSteps()
	if a.DType() == dtypes.Float64 {
		shift, steps = sylvesterExactShift, sylvesterExactSteps()
	}
	_, lengthA := byLength(a)
	_, lengthB := byLength(b)
	length := orOne(Add(lengthA, lengthB))
	c, largest := byLargest(c)
	upper := Concatenate([]*Node{addIdentity(Div(a, length), shift), c}, 2)
	lower := Concatenate([]*Node{Transpose(ZerosLike(c), 1, 2), Neg(addIdentity(Div(b, length), shift))}, 2)
	z := Concatenate([]*Node{upper, lower}, 1)
	for _, step := range steps {
		square := times(z, z)
		z = times(z, addIdentity(Add(MulScalar(square, step.B), MulScalar(times(square, square), step.C)), step.A))
	}
	z = Slice(z, AxisRange(), AxisRange(0, p), AxisRange(p, p+q))
	return Mul(z, Div(MulScalar(largest, 0.5), length))
}

// sylvesterFlops returns the operations of the products of one solution.
func sylvesterFlops(p, q int, float64s bool) int64 {
	steps, n := sylvesterSteps(), int64(p+q)
	if float64s {
		steps = sylvesterExactSteps()
	}
	return int64(len(steps)) * 6 * n * n * n
}
