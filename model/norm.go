package model

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/vjp"
)

// The helpers below write row and column scalings as products of vectors: on the Go backend a product writes a matrix three
// times faster than a broadcast, and sums rows ten times faster than a reduction.

// outer returns the matrix a bᵀ for vectors a [m] and b [n].
func outer(a, b *Node) *Node {
	return DotGeneral(Reshape(a, -1, 1), []int{1}, nil, Reshape(b, 1, -1), []int{0}, nil)
}

// ones returns a vector of ones in x's type.
func ones(x *Node, n int) *Node { return BroadcastToDims(ScalarOne(x.Graph(), x.DType()), n) }

// rowDot returns the inner products of the rows of x and y [m, n] -> [m].
func rowDot(x, y *Node) *Node { return DotGeneral(x, []int{1}, []int{0}, y, []int{1}, []int{0}) }

// rowSum returns the sums of the rows of x [m, n] -> [m].
func rowSum(x *Node) *Node {
	return DotGeneral(x, []int{1}, nil, ones(x, x.Shape().Dim(1)), []int{0}, nil)
}

// weightedColumnSum returns Σ_i w_i x_i over the rows of x [m, n] -> [n].
func weightedColumnSum(w, x *Node) *Node {
	return Reshape(DotGeneral(Reshape(w, 1, -1), []int{1}, nil, x, []int{0}, nil), -1)
}

// scaleRows returns x with row i multiplied by w_i.
func scaleRows(x, w *Node) *Node { return Mul(x, outer(w, ones(x, x.Shape().Dim(1)))) }

// inverseRoot returns 1/sqrt(sum/n + eps) of a vector of sums of n squares.
func inverseRoot(sum *Node, n int, eps float64) *Node {
	return Inverse(Sqrt(AddScalar(MulScalar(sum, 1/float64(n)), eps)))
}

// rmsNorm returns x / rms(x) times gain, row by row: x [m, n], gain [n] or nil for ones.
// Ref: Zhang and Sennrich 2019, arXiv 1910.07467.
func rmsNorm(x, gain *Node, eps float64) *Node {
	n := x.Shape().Dim(1)
	inputs := []*Node{x}
	column := gain
	if gain == nil {
		column = ones(x, n)
	} else {
		inputs = append(inputs, gain)
	}
	var inverse *Node
	forward := func() *Node {
		inverse = inverseRoot(rowDot(x, x), n, eps)
		return Mul(x, outer(inverse, column))
	}
	return vjp.Custom(inputs, forward, func(_, dy *Node) []*Node {
		scaled := Mul(dy, outer(inverse, column))
		along := MulScalar(Mul(rowDot(scaled, x), Square(inverse)), 1/float64(n))
		gradients := []*Node{Sub(scaled, scaleRows(x, along))}
		if gain != nil {
			gradients = append(gradients, weightedColumnSum(inverse, Mul(dy, x)))
		}
		return gradients
	})
}

// layerNorm returns (x - mean) / std times gain plus bias, row by row: x [m, n], gain and bias [n].
// Ref: Ba, Kiros and Hinton 2016, arXiv 1607.06450.
func layerNorm(x, gain, bias *Node, eps float64) *Node {
	n := x.Shape().Dim(1)
	centre := func(x *Node) *Node { // x minus the mean of its row
		return Sub(x, outer(MulScalar(rowSum(x), 1/float64(n)), ones(x, n)))
	}
	var centred, inverse *Node
	forward := func() *Node {
		centred = centre(x)
		inverse = inverseRoot(rowDot(centred, centred), n, eps)
		return addBias(Mul(centred, outer(inverse, gain)), bias)
	}
	return vjp.Custom([]*Node{x, gain, bias}, forward, func(_, dy *Node) []*Node {
		scaled := Mul(dy, outer(inverse, gain))
		along := MulScalar(Mul(rowDot(scaled, centred), Square(inverse)), 1/float64(n))
		dx := Sub(centre(scaled), scaleRows(centred, along))
		return []*Node{dx, weightedColumnSum(inverse, Mul(dy, centred)), weightedColumnSum(ones(dy, dy.Shape().Dim(0)), dy)}
	})
}

// addBias adds the vector bias [n] to every row of x [m, n].
func addBias(x, bias *Node) *Node { return Add(x, outer(ones(x, x.Shape().Dim(0)), bias)) }
