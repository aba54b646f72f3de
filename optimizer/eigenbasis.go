package optimizer

import (
	"cmp"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Eigenbases of slowly changing symmetric matrices, by matrix products only.
//
// Orthogonal iteration orthonormalises P L. Its usual QR sorts the vectors by eigenvalue; a polar factor does not: it converges to
// the invariant subspace of the largest eigenvalues and leaves the vectors within it as they are, and for all n of them it is
// a fixed point whatever they are. So the rows of P are turned instead: with M = P L Pᵀ each pair i, j of rows by the
// angle that would make M_ij zero if there were no others (Jacobi's), all pairs at once,
//
//	tan θ_ij = 2 M_ij / (d + sign(d)·√(d² + 4 M_ij²)),   d = M_jj - M_ii,   P ← polar(I - α tan θ) P.
//
// For small angles this is the first-order perturbation M_ij/(M_jj - M_ii) of the eigenvectors, so that it ends in quadratic
// convergence; far from them α <= 1/‖tan θ‖ keeps the pairs from overshooting together. An angle of Jacobi's always points to
// smaller off-diagonal elements. From I, in float32 and up to dimension 64, 60 turns left 2.4e-7 of the norm off the diagonal
// for spectra apart, close together and with a null space (TestEigenbasisConverges); a float64 prototype in dimension 200 left at
// most 2e-7, where 60 steps of orthogonal iteration by QR left 4e-4 to 1e-2.

// eigenbasisNoise is the distance of two diagonal elements, relative to the norm of M, below which they count as equal: the
// rounding of L in float32 must not turn its null space.
const eigenbasisNoise = 1e-6

// turn takes one step of the rows of basis [k, n, n], orthonormal, towards the eigenvectors of the symmetric positive
// semidefinite p [k, n, n]; exact makes the rows orthonormal to float64 instead of float32. For p zero the basis stays.
// Cost: eigenbasisFlops.
func turn(basis, p *Node, exact bool) *Node {
	p, _ = byLargest(p)
	m := symmetrised(timesTransposed(times(basis, p), basis))
	angles := jacobiTangents(m)
	// An upper bound of ‖angles‖₂: the Schatten 8-norm.
	gram := timesTransposed(angles, angles)
	fourth := timesTransposed(gram, gram)
	bound := Sqrt(Sqrt(frobeniusNorm(fourth)))
	one := OnesLike(bound)
	alpha := Div(one, Max(one, bound))
	// I - α·angles has singular values in [1, √(1+α²·bound²)]; around one they need fewest steps.
	center := PowScalar(OnePlus(Square(Mul(alpha, bound))), -0.25)
	x := Mul(Sub(basis, times(Mul(angles, alpha), basis)), center)
	steps := 2 // 0.19, the largest distance from one, becomes 2e-2 and 1e-5 ...
	if exact {
		steps = 3 // ... and 4e-15
	}
	for range steps {
		g := timesTransposed(x, x)
		q := Sub(MulScalar(times(g, g), 0.375), MulScalar(g, 1.25))
		x = Add(MulScalar(x, 1.875), times(q, x))
	}
	return x
}

// jacobiTangents returns tan θ_ij of m [k, n, n]: antisymmetric, entries of at most one.
func jacobiTangents(m *Node) *Node {
	n := m.Shape().Dim(-1)
	eye := identities(m)
	diagonal := ReduceAndKeep(Mul(m, eye), ReduceSum, 1) // [k, 1, n]
	d := Sub(diagonal, Transpose(diagonal, 1, 2))        // d_ij = m_jj - m_ii
	sign := Where(Equal(d, ZerosLike(d)), upperSigns(m, n), Sign(d))
	noise := AddScalar(MulScalar(frobeniusNorm(m), eigenbasisNoise), 1e-30)
	distance := Add(Abs(d), noise)
	twice := MulScalar(Mul(m, Sub(OnesLike(eye), eye)), 2)
	return Mul(sign, Div(twice, Add(distance, Sqrt(Add(Square(distance), Square(twice))))))
}

// upperSigns returns 1 above the diagonal, -1 below and 0 on it, for the batch of m [k, n, n].
func upperSigns(m *Node, n int) *Node {
	flat := make([]float32, n*n)
	for i := range n {
		for j := range n {
			flat[i*n+j] = float32(cmp.Compare(j, i))
		}
	}
	one := ConstTensor(m.Graph(), tensors.FromFlatDataAndDimensions(flat, n, n))
	return BroadcastPrefix(ConvertDType(one, m.DType()), m.Shape().Dim(0))
}

// eigenbasisFlops counts the products of one turn in dimension n.
func eigenbasisFlops(n int) int64 { return (5 + 2*3) * 2 * int64(n) * int64(n) * int64(n) }
