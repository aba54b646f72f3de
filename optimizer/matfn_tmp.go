package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
)

// Stand-in until package matfn is committed.
var matfn = struct {
	Msign, InvSqrt func(*Node) *Node
}{tmpMsign, tmpInvSqrt}

var pe = [][3]float64{{7.2086, -15.5131, 9.0178}, {3.9623, -2.5813, 0.4542}, {3.9466, -2.5765, 0.4544}, {3.8991, -2.5671, 0.4566}, {3.7186, -2.5308, 0.4653}, {3.1390, -2.3073, 0.4733}, {2.1715, -1.5246, 0.3885}, {1.8648, -1.2224, 0.3577}}
var ir = [][3]float64{{7.424865680309214, -18.39581635618996, 12.896720413604342}, {3.4877256051546017, -2.3300436563986993, 0.4404692168431095}, {2.7766085124882527, -2.070643152532662, 0.46302261050004967}, {1.9913142104341506, -1.373936700681269, 0.3875934979568538}, {1.8754637749479246, -1.2505152090010534, 0.37505152463617264}, {1.874999066623701, -1.2499981332141676, 0.37499906659046633}, {1.875, -1.25, 0.375}}

func norm(x *Node) (safe, zero *Node) {
	n := Sqrt(ReduceAndKeep(Square(x), ReduceSum, 1, 2))
	zero = Equal(n, ZerosLike(n))
	return Where(zero, OnesLike(n), n), zero
}

func tmpMsign(x *Node) *Node {
	tall := x.Shape().Dim(1) > x.Shape().Dim(2)
	if tall {
		x = Transpose(x, 1, 2)
	}
	n, _ := norm(x)
	x = Div(x, n)
	for _, c := range pe {
		g := Einsum("kmn,kpn->kmp", x, x)
		q := Add(MulScalar(g, c[1]), MulScalar(Einsum("kmp,kpn->kmn", g, g), c[2]))
		x = Add(MulScalar(x, c[0]), Einsum("kmp,kpn->kmn", q, x))
	}
	if tall {
		x = Transpose(x, 1, 2)
	}
	return x
}

func tmpInvSqrt(p *Node) *Node {
	r := p.Shape().Dim(-1)
	eye := ExpandAxes(ConvertDType(Diagonal(p.Graph(), r), p.DType()), 0)
	eye = BroadcastToDims(eye, p.Shape().Dimensions...)
	n, zero := norm(p)
	p = Add(Div(p, n), MulScalar(eye, 1e-5))
	x := eye
	mul := func(a, b *Node) *Node { return Einsum("kmp,kpn->kmn", a, b) }
	const g = 1.001
	for _, c := range ir {
		q := Add(Add(MulScalar(eye, c[0]/g), MulScalar(p, c[1]/(g*g*g))), MulScalar(mul(p, p), c[2]/(g*g*g*g*g)))
		x = mul(x, q)
		p = mul(mul(p, q), q)
		p = MulScalar(Add(p, Transpose(p, 1, 2)), 0.5)
	}
	x = Div(x, Sqrt(n))
	return Where(BroadcastToDims(zero, x.Shape().Dimensions...), ZerosLike(x), x)
}
