package manifold

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
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

// batchAxes returns the axes before the matrix.
func batchAxes(x *Node) []int {
	axes := make([]int, x.Rank()-2)
	for i := range axes {
		axes[i] = i
	}
	return axes
}

// times returns x·y over the last two axes, for equal batch axes.
func times(x, y *Node) *Node {
	batch := batchAxes(x)
	return DotGeneral(x, []int{-1}, batch, y, []int{-2}, batch)
}

// timesTransposed returns x·yᵀ over the last two axes.
func timesTransposed(x, y *Node) *Node {
	batch := batchAxes(x)
	return DotGeneral(x, []int{-1}, batch, y, []int{-1}, batch)
}

// transposed exchanges the last two axes.
func transposed(x *Node) *Node {
	axes := make([]int, x.Rank())
	for i := range axes {
		axes[i] = i
	}
	last := len(axes) - 1
	axes[last], axes[last-1] = last-1, last
	return TransposeAllDims(x, axes...)
}

// symmetric returns (x + xᵀ)/2.
func symmetric(x *Node) *Node { return MulScalar(Add(x, transposed(x)), 0.5) }

// identityLike returns the unit matrices of the shape and dtype of x [..., m, m].
func identityLike(x *Node) *Node {
	m := x.Shape().Dim(-1)
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

// sumSquares returns the sum of the squares of each matrix, shaped as the batch axes.
func sumSquares(x *Node) *Node { return inner(x, x) }

// inner returns the inner product of each matrix of x with that of y, shaped as the batch axes.
func inner(x, y *Node) *Node {
	batch := batchAxes(x)
	return DotGeneral(x, []int{-2, -1}, batch, y, []int{-2, -1}, batch)
}

// largest returns the largest absolute entry of each matrix, shaped as the batch axes, and the same with one for a zero.
func largest(x *Node) (value, safe *Node) {
	value = ReduceMax(Abs(x), -2, -1)
	return value, oneForZero(value)
}

// oneForZero returns s with zeros replaced by one and other numbers below the normal ones, whose reciprocal is infinite, by the
// smallest normal one; NaN stays.
func oneForZero(s *Node) *Node {
	normal := 0x1p-126
	if s.DType() == dtypes.Float64 {
		normal = 0x1p-1022
	}
	safe := Where(Equal(s, ZerosLike(s)), OnesLike(s), s)
	return Max(safe, MulScalar(OnesLike(s), normal))
}

// scaleBy multiplies each matrix of x by its number in s, shaped as the batch axes.
func scaleBy(x, s *Node) *Node {
	if s.IsScalar() {
		return Mul(x, s)
	}
	return Mul(x, spread(s, x))
}

// spread repeats the numbers of s, shaped as the batch axes, over the matrices of x. The outer product with ones is a vectorised
// product; a broadcast is an order slower on the Go backend, and one that feeds an elementwise operation breaks a loop there: the
// backend rewires it after it has compiled the loop's closures.
func spread(s, x *Node) *Node {
	dims := x.Shape().Dimensions
	ones := Ones(x.Graph(), shapes.Make(s.DType(), 1, dims[len(dims)-2]*dims[len(dims)-1]))
	return Reshape(DotGeneral(Reshape(s, -1, 1), []int{1}, nil, ones, []int{0}, nil), dims...)
}

// withNorm returns x scaled to the given Frobenius norm, whatever its own; zero stays zero.
func withNorm(x *Node, norm float64) *Node {
	_, safe := largest(x)
	x = scaleBy(x, Reciprocal(safe))
	return scaleBy(x, MulScalar(Reciprocal(Sqrt(oneForZero(sumSquares(x)))), norm))
}
