package matfn

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
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

// batchAxes returns the axes of x before the matrix.
func batchAxes(x *Node) []int {
	axes := make([]int, x.Rank()-2)
	for i := range axes {
		axes[i] = i
	}
	return axes
}

// product returns x·y over the last two axes, for equal batch axes.
func product(x, y *Node) *Node {
	batch := batchAxes(x)
	return DotGeneral(x, []int{-1}, batch, y, []int{-2}, batch)
}

// productNT returns x·yᵀ over the last two axes.
func productNT(x, y *Node) *Node {
	batch := batchAxes(x)
	return DotGeneral(x, []int{-1}, batch, y, []int{-1}, batch)
}

// sumSquares returns the sum of the squares of each matrix, shaped as the batch axes.
func sumSquares(x *Node) *Node {
	batch := batchAxes(x)
	return DotGeneral(x, []int{-2, -1}, batch, x, []int{-2, -1}, batch)
}

// nonzero returns s >= 0 with zeros replaced by one and subnormal numbers, whose reciprocals are infinite, by the smallest normal
// one (NaN stays), and where s was zero.
func nonzero(s *Node) (safe, zero *Node) {
	zero = Equal(s, ZerosLike(s))
	return Max(Where(zero, OnesLike(s), s), MulScalar(OnesLike(s), smallestNormal(s.DType()))), zero
}

// maxAbs returns the largest absolute entry of each matrix, one for a zero matrix, shaped as the batch axes, as a constant
// of the autodiff: everything here divides by it and puts it back, so that it has no gradient as a whole.
func maxAbs(x *Node) *Node {
	x = StopGradient(Abs(x))
	safe, _ := nonzero(ReduceMax(x, -2, -1))
	return safe
}

// smallestNormal returns the smallest normal number of float32 or float64.
func smallestNormal(dtype dtypes.DType) float64 {
	if dtype == dtypes.Float64 {
		return 0x1p-1022
	}
	return 0x1p-126
}

// scaleBy multiplies each matrix of x by its number in s, shaped as the batch axes.
func scaleBy(x, s *Node) *Node {
	if s.IsScalar() {
		return Mul(x, s)
	}
	// The outer product with ones is a vectorised product; implicit broadcasting is an order slower on the Go backend.
	dims := x.Shape().Dimensions
	size := dims[len(dims)-2] * dims[len(dims)-1]
	ones := Ones(x.Graph(), shapes.Make(x.DType(), 1, size))
	wide := DotGeneral(Reshape(s, -1, 1), []int{1}, nil, ones, []int{0}, nil)
	return Mul(x, Reshape(wide, dims...))
}

// identity returns the unit matrices [..., m, m] for the batch axes of x, in its dtype.
func identity(x *Node, m int) *Node {
	flat := make([]float32, m*m)
	for i := range m {
		flat[i*m+i] = 1
	}
	eye := ConvertDType(ConstTensor(x.Graph(), tensors.FromFlatDataAndDimensions(flat, m, m)), x.DType())
	if x.Rank() == 2 {
		return eye
	}
	return BroadcastPrefix(eye, x.Shape().Dimensions[:x.Rank()-2]...)
}
