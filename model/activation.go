package model

import (
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/vjp"
)

// curve is an activation: its value at x, and its derivative times dy. saved is whatever value wants to keep for slope.
type curve struct {
	value func(x *Node) (y *Node, saved []*Node)
	slope func(x, dy *Node, saved []*Node) *Node
}

// curves holds the activations by name.
var curves = map[Activation]curve{
	SiLU: {
		value: func(x *Node) (*Node, []*Node) {
			s := Reciprocal(OnePlus(Exp(Neg(x)))) // the Go backend's Logistic takes half as long again
			return Mul(x, s), []*Node{s}
		},
		slope: func(x, dy *Node, saved []*Node) *Node { // σ(1 + x - xσ)
			s := saved[0]
			return Mul(dy, Mul(s, OnePlus(Sub(x, Mul(x, s)))))
		},
	},
	GELU: {
		value: func(x *Node) (*Node, []*Node) { // x Φ(x)
			phi := MulScalar(OnePlus(Erf(MulScalar(x, math.Sqrt2/2))), 0.5)
			return Mul(x, phi), []*Node{phi}
		},
		slope: func(x, dy *Node, saved []*Node) *Node { // Φ(x) + x φ(x)
			density := MulScalar(Exp(MulScalar(Square(x), -0.5)), 1/math.Sqrt(2*math.Pi))
			return Mul(dy, Add(saved[0], Mul(x, density)))
		},
	},
	GELUTanh: {
		value: func(x *Node) (*Node, []*Node) { // x (1 + tanh(√(2/π)(x + 0.044715 x³)))/2
			t := Tanh(Mul(x, AddScalar(MulScalar(Square(x), geluCubic*geluRoot), geluRoot)))
			return MulScalar(Mul(x, OnePlus(t)), 0.5), []*Node{t}
		},
		slope: func(x, dy *Node, saved []*Node) *Node {
			t := saved[0]
			inner := AddScalar(MulScalar(Square(x), 3*geluCubic*geluRoot), geluRoot)
			return MulScalar(Mul(dy, Add(OnePlus(t), Mul(Mul(x, inner), OneMinus(Square(t))))), 0.5)
		},
	},
	ReLU2: {
		value: func(x *Node) (*Node, []*Node) {
			r := Max(x, ScalarZero(x.Graph(), x.DType()))
			return Square(r), []*Node{r}
		},
		slope: func(_, dy *Node, saved []*Node) *Node { return MulScalar(Mul(dy, saved[0]), 2) },
	},
}

// The constants of the tanh approximation. Ref: Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2.
const (
	geluCubic = 0.044715
	geluRoot  = 0.7978845608028654 // √(2/π)
)

func curveOf(kind Activation) curve {
	c, ok := curves[kind]
	if !ok {
		exceptions.Panicf("model: unknown activation %q", kind)
	}
	return c
}

// activate returns the activation of x.
func activate(kind Activation, x *Node) *Node {
	c := curveOf(kind)
	var saved []*Node
	forward := func() (y *Node) {
		y, saved = c.value(x)
		return y
	}
	return vjp.Custom([]*Node{x}, forward, func(_, dy *Node) []*Node { return []*Node{c.slope(x, dy, saved)} })
}

// activateGated returns act(gate)·up. For the backward pass it keeps gate, up, act(gate) and what the activation saves.
// Ref: Shazeer 2020, arXiv 2002.05202.
func activateGated(kind Activation, gate, up *Node) *Node {
	c := curveOf(kind)
	var value *Node
	var saved []*Node
	forward := func() *Node {
		value, saved = c.value(gate)
		return Mul(value, up)
	}
	return vjp.Custom([]*Node{gate, up}, forward, func(_, dy *Node) []*Node {
		return []*Node{c.slope(gate, Mul(dy, up), saved), Mul(dy, value)}
	})
}
