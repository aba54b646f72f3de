package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/batched"
)

// Matrices of the rules, batched over the members of a group. Steps are built in the wide form [k, r, m], because the Go backend
// vectorises x·y and x·yᵀ and transposes for any other order.
var (
	times, timesTransposed = batched.Product, batched.ProductT
	symmetrised            = batched.Symmetric
)

// gramOf returns xᵀx of x [k, m, r].
func gramOf(x *Node) *Node {
	x = Transpose(x, 1, 2)
	return timesTransposed(x, x)
}

// identities returns the unit matrices of the shape of p [k, r, r].
func identities(p *Node) *Node { return batched.Eye(p, p.Shape().Dim(-1)) }

// addIdentity returns p + c·I.
func addIdentity(p *Node, c float64) *Node { return Add(p, MulScalar(identities(p), c)) }

// isNonzero returns 0 for each zero matrix of p [k, r, r] and 1 for the others: [k, 1, 1].
func isNonzero(p *Node) *Node {
	largest := ReduceAndKeep(Abs(p), ReduceMax, 1, 2)
	return Where(Equal(largest, ZerosLike(largest)), ZerosLike(largest), OnesLike(largest))
}

// frobeniusNorm returns the norms of the matrices of x [k, m, n]: [k, 1, 1].
func frobeniusNorm(x *Node) *Node { return Sqrt(ReduceAndKeep(Square(x), ReduceSum, 1, 2)) }
