package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// Small matrices of the rules, batched over the members of a group: [k, r, r].

// gramOf returns xᵀx of x [k, m, r].
func gramOf(x *Node) *Node {
	x = Transpose(x, 1, 2)
	return timesTransposed(x, x)
}

// identities returns the unit matrices of the shape of p [k, r, r].
func identities(p *Node) *Node {
	eye := ConvertDType(Diagonal(p.Graph(), p.Shape().Dim(-1)), p.DType())
	return BroadcastPrefix(eye, p.Shape().Dim(0))
}

// addIdentity returns p + c·I.
func addIdentity(p *Node, c float64) *Node { return Add(p, MulScalar(identities(p), c)) }

// symmetrised returns (p + pᵀ)/2.
func symmetrised(p *Node) *Node { return MulScalar(Add(p, Transpose(p, 1, 2)), 0.5) }

// isNonzero returns 0 for each zero matrix of p [k, r, r] and 1 for the others: [k, 1, 1].
func isNonzero(p *Node) *Node {
	largest := ReduceAndKeep(Abs(p), ReduceMax, 1, 2)
	return Where(Equal(largest, ZerosLike(largest)), ZerosLike(largest), OnesLike(largest))
}

// frobeniusNorm returns the norms of the matrices of x [k, m, n]: [k, 1, 1].
func frobeniusNorm(x *Node) *Node { return Sqrt(ReduceAndKeep(Square(x), ReduceSum, 1, 2)) }
