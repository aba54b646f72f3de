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
	largest := largestEntry(p)
	return Where(Equal(largest, ZerosLike(largest)), ZerosLike(largest), OnesLike(largest))
}

// largestEntry returns the largest absolute entry of each matrix of x [k, p, q]: [k, 1, 1].
func largestEntry(x *Node) *Node { return ReduceAndKeep(Abs(x), ReduceMax, 1, 2) }

// byLargest divides each matrix of x [k, p, q] by its largest absolute entry [k, 1, 1], and returns that too; zero stays zero.
func byLargest(x *Node) (scaled, largest *Node) {
	largest = largestEntry(x)
	return Div(x, orOne(largest)), largest
}

// byLength divides each matrix of x [k, p, q] by its Frobenius norm [k, 1, 1], and returns that too; zero stays zero.
func byLength(x *Node) (unit, length *Node) {
	length = frobeniusNorm(x)
	return Div(x, orOne(length)), length
}

// orOne returns x with one where it is zero.
func orOne(x *Node) *Node { return Where(Equal(x, ZerosLike(x)), OnesLike(x), x) }

// together applies f to x and y of one shape in one batch.
func together(x, y *Node, f func(*Node) *Node) (fx, fy *Node) {
	both := parts(f(Concatenate([]*Node{x, y}, 0)), 2)
	return both[0], both[1]
}

// parts cuts x along its first axis into count parts of one length.
func parts(x *Node, count int) []*Node {
	out, k := make([]*Node, count), x.Shape().Dim(0)/count
	for i := range out {
		out[i] = SliceAxis(x, 0, AxisRange(i*k, (i+1)*k))
	}
	return out
}

// frobeniusNorm returns the norms of the matrices of x [k, m, n]: [k, 1, 1].
func frobeniusNorm(x *Node) *Node { return Sqrt(ReduceAndKeep(Square(x), ReduceSum, 1, 2)) }
