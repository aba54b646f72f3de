package matfn

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/batched"
)

// working returns x in the dtype it is computed in: float32 for float16 and bfloat16. Panics unless x is [..., m, n] of a
// floating point dtype.
func working(function string, x *Node) *Node {
	if x.Rank() < 2 || !x.DType().IsFloat() {
		exceptions.Panicf("matfn.%s: got %s, want a floating point [..., m, n]", function, x.Shape())
	}
	if x.DType().IsHalfPrecision() {
		return ConvertDType(x, dtypes.Float32)
	}
	return x
}

// working returns x in the dtype it is computed in: float64 for the exact functions, else as the function working does.
func (c config) working(function string, x *Node) *Node {
	x = working(function, x)
	if c.exact {
		return toFloat64(x)
	}
	return x
}

// Short names of what the formulas here are made of.
var (
	product, productNT    = batched.Product, batched.ProductT
	transposed, symmetric = batched.Transposed, batched.Symmetric
	identity, scaleBy     = batched.Eye, batched.ScaleBy
	sumSquares            = batched.SumSquares
)

// nonzero is batched.OneForZero, and says where s was zero.
func nonzero(s *Node) (safe, zero *Node) { return batched.OneForZero(s), Equal(s, ZerosLike(s)) }

// maxAbs returns the largest absolute entry of each matrix, one for a zero matrix, shaped as the batch axes, as a constant
// of the autodiff: everything here divides by it and puts it back, so that it has no gradient as a whole.
func maxAbs(x *Node) *Node {
	x = StopGradient(Abs(x))
	safe, _ := nonzero(ReduceMax(x, -2, -1))
	return safe
}
