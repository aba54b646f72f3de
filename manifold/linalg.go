package manifold

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/batched"
)

// working returns x in the dtype it is computed in: float32 for float16 and bfloat16.
func working(x *Node) *Node {
	if x.DType().IsHalfPrecision() {
		return ConvertDType(x, dtypes.Float32)
	}
	return x
}

// checkMatrix panics unless x is a floating point [..., m, n], and square where square is set.
func checkMatrix(function string, square bool, x *Node) {
	if x.Rank() < 2 || !x.DType().IsFloat() {
		exceptions.Panicf("manifold.%s: got %s, want a floating point [..., m, n]", function, x.Shape())
	}
	if square && x.Shape().Dim(-1) != x.Shape().Dim(-2) {
		exceptions.Panicf("manifold.%s: got %s, want square matrices [..., m, m]", function, x.Shape())
	}
}

// checkPair is checkMatrix for w, and panics unless x is of its shape and dtype.
func checkPair(function string, square bool, w, x *Node) {
	checkMatrix(function, square, w)
	if !w.Shape().Equal(x.Shape()) {
		exceptions.Panicf("manifold.%s: got a weight %s and a direction %s, want equal shapes", function, w.Shape(), x.Shape())
	}
}

// Short names of what the formulas here are made of.
var (
	times, timesTransposed = batched.Product, batched.ProductT
	transposed, symmetric  = batched.Transposed, batched.Symmetric
	inner, sumSquares      = batched.Inner, batched.SumSquares
	scaleBy, oneForZero    = batched.ScaleBy, batched.OneForZero
)

// identityLike returns the unit matrices of the shape and dtype of x [..., m, m].
func identityLike(x *Node) *Node { return batched.Eye(x, x.Shape().Dim(-1)) }

// largest returns the largest absolute entry of each matrix, shaped as the batch axes, and the same with one for a zero.
func largest(x *Node) (value, safe *Node) {
	value = ReduceMax(Abs(x), -2, -1)
	return value, oneForZero(value)
}

// withNorm returns x scaled to the given Frobenius norm, whatever its own; zero stays zero.
func withNorm(x *Node, norm float64) *Node {
	_, safe := largest(x)
	x = scaleBy(x, Reciprocal(safe))
	return scaleBy(x, MulScalar(Reciprocal(Sqrt(oneForZero(sumSquares(x)))), norm))
}
