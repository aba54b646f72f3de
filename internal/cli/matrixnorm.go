package cli

import (
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

const (
	// normTol is how far apart, relative to each other, the bounds of the square of a spectral norm may end.
	normTol = 1e-10
	// mostSquarings bounds the work: the bounds of m equal singular values are ln(m)/2^k apart after k squarings.
	mostSquarings = 40
)

// spectralNorms returns the largest singular value of each matrix of x [..., m, n], which is not empty: converged, from a
// lower and an upper bound that meet (TestSpectralNorms).
//
// The Gram matrix G of the smaller side is squared again and again in float64: P_k = G^(2^k), up to its scale. The Rayleigh
// quotient tr(G P)/tr(P) bounds its largest eigenvalue from below, the Schatten norm of order 2^(k+1) from above.
func spectralNorms(engine compute.Backend, x *tensors.Tensor) ([]float64, error) {
	begin, err := NewExec(engine, gramOf)
	if err != nil {
		return nil, err
	}
	defer begin.Finalize()
	squaring, err := NewExec(engine, squareOnce)
	if err != nil {
		return nil, err
	}
	defer squaring.Finalize()
	out, err := begin.Call(x)
	if err != nil {
		return nil, err
	}
	gram, power, weight := out[1], out[1], 1.0
	scales, norms := tensors.MustCopyFlatData[float64](out[0]), tensors.MustCopyFlatData[float64](out[2])
	lower, upper := make([]float64, len(norms)), make([]float64, len(norms)) // upper in logarithms, from ‖G‖_F = 1
	for range mostSquarings {
		if out, err = squaring.Call(gram, power); err != nil {
			return nil, err
		}
		power, weight = out[0], weight/2
		lower = tensors.MustCopyFlatData[float64](out[1])
		apart := 0.0
		for i, norm := range tensors.MustCopyFlatData[float64](out[2]) {
			upper[i] += weight * math.Log(norm)
			if lower[i] > 0 {
				apart = max(apart, math.Exp(upper[i])/lower[i]-1)
			}
		}
		if apart <= normTol {
			break
		}
	}
	for i := range lower {
		lower[i] = scales[i] * math.Sqrt(lower[i]*norms[i])
	}
	return lower, nil
}

// gramOf returns the largest absolute entry of each matrix [k], the Gram matrix of its smaller side after dividing by that
// entry and by the Gram matrix's Frobenius norm [k, m, m], and that norm [k]; ones in place of zeros.
func gramOf(x *Node) (scale, gram, norm *Node) {
	m, n := x.Shape().Dim(-2), x.Shape().Dim(-1)
	x = ConvertDType(Reshape(x, -1, m, n), dtypes.Float64)
	if m > n {
		x = Transpose(x, 1, 2)
	}
	scale = oneForZero(ReduceMax(Abs(x), 1, 2))
	x = Div(x, InsertAxes(scale, -1, -1))
	gram = DotGeneral(x, []int{2}, []int{0}, x, []int{2}, []int{0})
	norm = oneForZero(frobenius(gram))
	return scale, Div(gram, InsertAxes(norm, -1, -1)), norm
}

// squareOnce returns the square of power [k, m, m], which is symmetric and of Frobenius norm one, scaled to that norm again,
// tr(gram·square)/tr(square) [k], and the norm that the square had [k].
func squareOnce(gram, power *Node) (square, quotient, norm *Node) {
	square = DotGeneral(power, []int{2}, []int{0}, power, []int{2}, []int{0})
	norm = oneForZero(frobenius(square))
	square = Div(square, InsertAxes(norm, -1, -1))
	// The trace of the square was ‖power‖² = 1.
	return square, Mul(ReduceSum(Mul(gram, square), 1, 2), norm), norm
}

func frobenius(x *Node) *Node { return Sqrt(ReduceSum(Square(x), 1, 2)) }

// oneForZero returns s with zeros replaced by one.
func oneForZero(s *Node) *Node { return Where(Equal(s, ZerosLike(s)), OnesLike(s), s) }
