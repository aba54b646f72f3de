// Package batched holds operations on matrices [..., m, n] as graph nodes: the last two axes are the matrix, the others are a
// batch, equal for both operands of a product. The products are built in the two orders that the Go backend vectorises.
//
// Building a graph panics on shapes that do not fit, as in GoMLX.
package batched

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Axes returns the axes of x before the matrix.
func Axes(x *Node) []int {
	axes := make([]int, x.Rank()-2)
	for i := range axes {
		axes[i] = i
	}
	return axes
}

// full is a product in the operands' own precision, also on backends that else round operands (polar:bf16): iterations such as
// Newton-Schulz diverge in bfloat16.
func full(x, y *Node) *DotBuilder { return Dot(x, y).WithAccumulatorDType(x.DType()) }

// Product returns x·y.
func Product(x, y *Node) *Node {
	batch := Axes(x)
	return full(x, y).General([]int{-1}, batch, []int{-2}, batch)
}

// ProductT returns x·yᵀ.
func ProductT(x, y *Node) *Node {
	batch := Axes(x)
	return full(x, y).General([]int{-1}, batch, []int{-1}, batch)
}

// Inner returns the inner products of the matrices of x and y, shaped as the batch axes.
func Inner(x, y *Node) *Node {
	batch := Axes(x)
	return DotGeneral(x, []int{-2, -1}, batch, y, []int{-2, -1}, batch)
}

// SumSquares returns the sum of the squares of each matrix, shaped as the batch axes.
func SumSquares(x *Node) *Node { return Inner(x, x) }

// Transposed exchanges the last two axes.
func Transposed(x *Node) *Node {
	rank := x.Rank()
	return TransposeAllDims(x, append(Axes(x), rank-1, rank-2)...)
}

// Symmetric returns (x + xᵀ)/2.
func Symmetric(x *Node) *Node { return MulScalar(Add(x, Transposed(x)), 0.5) }

// Eye returns the unit matrices [..., m, m] for the batch axes of x, in its dtype.
func Eye(x *Node, m int) *Node {
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

// ScaleBy multiplies each matrix of x by its number in s, shaped as the batch axes.
func ScaleBy(x, s *Node) *Node {
	if s.IsScalar() {
		return Mul(x, s)
	}
	// The outer product with ones is a vectorised product; a broadcast is an order slower on the Go backend, and one that feeds an
	// elementwise operation breaks a loop there: the backend rewires it after it has compiled the loop's closures.
	dims := x.Shape().Dimensions
	ones := Ones(x.Graph(), shapes.Make(s.DType(), 1, dims[len(dims)-2]*dims[len(dims)-1]))
	return Mul(x, Reshape(DotGeneral(Reshape(s, -1, 1), []int{1}, nil, ones, []int{0}, nil), dims...))
}

// OneForZero returns s >= 0 with zeros replaced by one and subnormal numbers, whose reciprocals are infinite, by the smallest normal
// one (NaN stays).
func OneForZero(s *Node) *Node {
	normal := 0x1p-126
	if s.DType() == dtypes.Float64 {
		normal = 0x1p-1022
	}
	return Max(Where(Equal(s, ZerosLike(s)), OnesLike(s), s), MulScalar(OnesLike(s), normal))
}
