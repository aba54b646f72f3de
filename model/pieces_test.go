package model

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
)

// pieceTol bounds the relative error of values and gradients of a norm or an activation: a few roundings an element, sums
// of seven, and the engine's float32 exp, tanh and erf. The worst below is 1.3 eps32 with the Go engine.
const pieceTol = 16 * eps32

// piece is a graph function beside a float64 function of the same arrays, and a slightly wrong one that must be rejected.
type piece struct {
	name         string
	inputs       []array
	graph        func(x []*Node) *Node
	plain, wrong func(x [][]float64) []float64
}

// valueAndGradients runs y = f(x) and returns y and the gradients of Σ y·weighting with respect to every x.
func valueAndGradients(t *testing.T, inputs []array, f func(x []*Node) *Node) [][]float32 {
	t.Helper()
	args := make([]any, len(inputs))
	for i, a := range inputs {
		args[i] = a.tensor()
	}
	return run(t, mlmodel.NewStore(), args, func(x []*Node) []*Node {
		y := f(x)
		c := Reshape(Const(y.Graph(), weighting(y.Shape().Size())), y.Shape().Dimensions...)
		return append([]*Node{y}, Gradient(ReduceAllSum(Mul(y, c)), x...)...)
	})
}

// slopes returns the derivatives of Σ f·weighting with respect to each element of inputs[at].
func slopes(f func(x [][]float64) []float64, inputs [][]float64, at int) []float64 {
	total := func(x []float64) float64 {
		moved := append([][]float64(nil), inputs...)
		moved[at] = x
		y := f(moved)
		return dot(y, wide(weighting(len(y))))
	}
	out := make([]float64, len(inputs[at]))
	for i := range out {
		direction := make([]float64, len(out))
		direction[i] = 1
		out[i] = slope(total, inputs[at], direction)
	}
	return out
}

func (p piece) test(t *testing.T) {
	got := valueAndGradients(t, p.inputs, p.graph)
	inputs := make([][]float64, len(p.inputs))
	for i, a := range p.inputs {
		inputs[i] = wide(a.values)
	}
	check.Close(t, "value", wide(got[0]), p.plain(inputs), pieceTol)
	bites(t, "value", wide(got[0]), p.wrong(inputs), pieceTol)
	rejected := false
	for i := range inputs {
		check.Close(t, "gradient", wide(got[1+i]), slopes(p.plain, inputs, i), pieceTol)
		rejected = rejected || check.Compare(wide(got[1+i]), slopes(p.wrong, inputs, i), pieceTol) != ""
	}
	if !rejected {
		t.Error("the gradients of the wrong formula are within the tolerance too")
	}
}

// norms in rows of 7 with a large epsilon, so that its place matters.
const (
	normWidth = 7
	normEps   = 0.02
)

// plainNorm is the norm of rows: shift says whether the mean is taken out, gain and bias may be nil.
func plainNorm(x, gain, bias []float64, eps float64, shift bool) []float64 {
	n := normWidth
	out := make([]float64, len(x))
	for from := 0; from < len(x); from += n {
		mean, square := 0.0, 0.0
		for _, v := range x[from : from+n] {
			mean += v / float64(n)
		}
		if !shift {
			mean = 0
		}
		for _, v := range x[from : from+n] {
			square += (v - mean) * (v - mean) / float64(n)
		}
		for i := range n {
			y := (x[from+i] - mean) / math.Sqrt(square+eps)
			if gain != nil {
				y *= gain[i]
			}
			if bias != nil {
				y += bias[i]
			}
			out[from+i] = y
		}
	}
	return out
}

func TestNorms(t *testing.T) {
	x, gain, bias := random(1, 1, 5, normWidth), random(2, 2, normWidth), random(3, 1, normWidth)
	for _, p := range []piece{
		{"plain", []array{x}, func(x []*Node) *Node { return rmsNorm(x[0], nil, normEps) },
			func(x [][]float64) []float64 { return plainNorm(x[0], nil, nil, normEps, false) },
			func(x [][]float64) []float64 { return plainNorm(x[0], nil, nil, normEps*1.01, false) }},
		{"rms", []array{x, gain}, func(x []*Node) *Node { return rmsNorm(x[0], x[1], normEps) },
			func(x [][]float64) []float64 { return plainNorm(x[0], x[1], nil, normEps, false) },
			func(x [][]float64) []float64 { return plainNorm(x[0], x[1], nil, normEps, true) }},
		{"layer", []array{x, gain, bias}, func(x []*Node) *Node { return layerNorm(x[0], x[1], x[2], normEps) },
			func(x [][]float64) []float64 { return plainNorm(x[0], x[1], x[2], normEps, true) },
			func(x [][]float64) []float64 { return plainNorm(x[0], x[1], x[2], normEps, false) }},
	} {
		t.Run(p.name, p.test)
	}
}

// TestNormOfZeros: a row of zeros gives zeros and finite gradients.
func TestNormOfZeros(t *testing.T) {
	x := array{[]int{2, 3}, make([]float32, 6)}
	got := valueAndGradients(t, []array{x}, func(x []*Node) *Node { return rmsNorm(x[0], nil, 1e-6) })
	same(t, "value", got[0], x.values)
	if !finite(got[1]) {
		t.Errorf("gradient %v", got[1])
	}
}

// plainCurves are the activations' formulas, in forms other than the code's.
var plainCurves = map[Activation]func(x float64) float64{
	SiLU: func(x float64) float64 { return x / (1 + math.Exp(-x)) },
	GELU: func(x float64) float64 { return x * math.Erfc(-x/math.Sqrt2) / 2 },
	// (1 + tanh z)/2 is the logistic function of 2z
	GELUTanh: func(x float64) float64 { return x / (1 + math.Exp(-2*math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) },
	ReLU2:    func(x float64) float64 { return x * max(x, 0) },
}

func each(f func(x float64) float64, x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = f(v)
	}
	return out
}

func products(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] * b[i]
	}
	return out
}

func TestActivations(t *testing.T) {
	x, up := random(4, 4, 8, 5), random(5, 2, 8, 5)
	for kind, curve := range plainCurves {
		wrong := plainCurves[SiLU] // GELU's two forms differ by 1e-4 and must tell each other apart
		switch kind {
		case SiLU, GELUTanh:
			wrong = plainCurves[GELU]
		case GELU:
			wrong = plainCurves[GELUTanh]
		}
		p := piece{inputs: []array{x}, graph: func(x []*Node) *Node { return activate(kind, x[0]) },
			plain: func(x [][]float64) []float64 { return each(curve, x[0]) },
			wrong: func(x [][]float64) []float64 { return each(wrong, x[0]) }}
		t.Run(string(kind), p.test)
		p = piece{inputs: []array{x, up}, graph: func(x []*Node) *Node { return activateGated(kind, x[0], x[1]) },
			plain: func(x [][]float64) []float64 { return products(each(curve, x[0]), x[1]) },
			wrong: func(x [][]float64) []float64 { return products(each(wrong, x[0]), x[1]) }}
		t.Run(string(kind)+" gated", p.test)
	}
}

// TestActivationsFarOut: values and gradients stay finite and right where exp overflows or everything is saturated.
func TestActivationsFarOut(t *testing.T) {
	x := array{[]int{1, 4}, []float32{-300, -60, 60, 300}}
	for kind, curve := range plainCurves {
		got := valueAndGradients(t, []array{x}, func(x []*Node) *Node { return activate(kind, x[0]) })
		check.Close(t, string(kind), wide(got[0]), each(curve, wide(x.values)), pieceTol)
		plain := func(x [][]float64) []float64 { return each(curve, x[0]) }
		check.Close(t, string(kind)+" gradient", wide(got[1]), slopes(plain, [][]float64{wide(x.values)}, 0), pieceTol)
	}
}

// TestUnknownActivation: the graph is not built with another one.
func TestUnknownActivation(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown activation was built")
		}
	}()
	curveOf("tanh")
}

// TestNaNPassesPieces: a NaN in one row reaches that row's outputs and no other row's.
func TestNaNPassesPieces(t *testing.T) {
	x := random(6, 1, 3, normWidth)
	x.values[normWidth+2] = float32(math.NaN())
	for name, f := range map[string]func(x *Node) *Node{
		"rms":   func(x *Node) *Node { return rmsNorm(x, nil, normEps) },
		"layer": func(x *Node) *Node { return layerNorm(x, ones(x, normWidth), ones(x, normWidth), normEps) },
		"silu":  func(x *Node) *Node { return activate(SiLU, x) },
		"gelu":  func(x *Node) *Node { return activate(GELU, x) },
		"tanh":  func(x *Node) *Node { return activate(GELUTanh, x) },
		"relu2": func(x *Node) *Node { return activate(ReLU2, x) },
	} {
		got := run(t, mlmodel.NewStore(), []any{x.tensor()}, func(in []*Node) []*Node { return []*Node{f(in[0])} })[0]
		if !finite(got[:normWidth]) || !finite(got[2*normWidth:]) {
			t.Errorf("%s: NaN reached another row: %v", name, got)
		}
		if finite(got[normWidth : 2*normWidth]) {
			t.Errorf("%s: NaN was hidden: %v", name, got)
		}
	}
}
