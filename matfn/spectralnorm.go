package matfn

import (
	"math/rand/v2"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/batched"
)

// MinPowerSteps is the smallest number of steps SpectralNorm takes, and its default.
const MinPowerSteps = 16

// NormOption changes what SpectralNorm does.
type NormOption func(*normConfig)

type normConfig struct {
	steps int
	seed  uint64
}

// WithPowerSteps takes more steps than MinPowerSteps; SpectralNorm panics for fewer.
func WithPowerSteps(steps int) NormOption { return func(c *normConfig) { c.steps = steps } }

// WithSeed changes the start vector, which is the same for all matrices of a batch.
func WithSeed(seed uint64) NormOption { return func(c *normConfig) { c.seed = seed } }

// SpectralNorm returns the largest singular value of x and its singular vectors, by power iteration on the smaller side
// from a seeded start: sigma = uᵀ x v <= ‖x‖, a lower bound, never an upper one. Zero gives zero for all three.
//
// x [..., m, n], float32, float64, float16 or bfloat16 -> u [..., m], sigma [...], v [..., n] of that dtype; leading axes are a
// batch; half precision is computed in float32.
// Accuracy: after k steps the error is about (s₂/s₁)^{4k} relative, so a close second singular value hides: see
// TestSpectralNorm. Cost: 4mn(k+1) operations. NaN or Inf in a matrix makes its results NaN.
// Panics while building the graph if x has rank < 2, an empty matrix or is not floating point, or for too few steps.
func SpectralNorm(x *Node, opts ...NormOption) (u, sigma, v *Node) {
	c := normConfig{steps: MinPowerSteps}
	for _, opt := range opts {
		opt(&c)
	}
	dtype := x.DType()
	x = working("SpectralNorm", x)
	if c.steps < MinPowerSteps || x.Shape().Size() == 0 {
		exceptions.Panicf("matfn.SpectralNorm: got %s and %d steps, want a matrix that is not empty and at least %d steps",
			x.Shape(), c.steps, MinPowerSteps)
	}
	m, n := x.Shape().Dim(-2), x.Shape().Dim(-1)
	short, long := -2, -1
	if m > n {
		short, long = -1, -2
	}
	largest := maxAbs(x)
	x = scaleBy(x, Reciprocal(largest))
	a := startVector(x, min(m, n), c.seed)
	var b, norm *Node
	for range c.steps {
		b = apply(x, a, short)
		b, _ = normalise(b)
		a, _ = normalise(apply(x, b, long))
	}
	b, norm = normalise(apply(x, a, short))
	sigma = Mul(norm, largest)
	if m > n {
		a, b = b, a
	}
	return ConvertDType(a, dtype), ConvertDType(sigma, dtype), ConvertDType(b, dtype)
}

// startVector returns the same random vector of unit length for every matrix of x: [..., length].
func startVector(x *Node, length int, seed uint64) *Node {
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	values := make([]float32, length)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	start := ConvertDType(Const(x.Graph(), values), x.DType())
	if x.Rank() > 2 {
		start = BroadcastPrefix(start, x.Shape().Dimensions[:x.Rank()-2]...)
	}
	start, _ = normalise(start)
	return start
}

// apply contracts axis of the matrices x with the vectors a.
func apply(x, a *Node, axis int) *Node {
	batch := batched.Axes(x)
	return DotGeneral(x, []int{axis}, batch, a, []int{-1}, batch)
}

// normalise returns a divided by its length, and the length; zero stays zero.
func normalise(a *Node) (unit, length *Node) {
	batch := batched.Axes(ExpandAxes(a, -1))
	squares := DotGeneral(a, []int{-1}, batch, a, []int{-1}, batch)
	safe, zero := nonzero(squares)
	length = Sqrt(safe)
	if a.Rank() == 1 {
		unit = Div(a, length)
	} else {
		unit = Div(a, ExpandAxes(length, -1))
	}
	return unit, Where(zero, ZerosLike(length), length)
}
