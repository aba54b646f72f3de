package vjp

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/graphx"
)

// formula is a function of nodes in two forms: plain, for GoMLX's autodiff, and with a backward of its own.
type formula struct {
	name   string
	in     [][]int
	plain  func(x []*Node) *Node
	custom func(x []*Node) *Node
}

func square(x *Node) *Node {
	return Custom([]*Node{x}, func() *Node { return Mul(x, x) }, func(_, dy *Node) []*Node {
		return []*Node{Mul(MulScalar(x, 2), dy)}
	})
}

// exponential's backward uses its result.
func exponential(x *Node) *Node {
	return Custom([]*Node{x}, func() *Node { return Exp(x) }, func(y, dy *Node) []*Node { return []*Node{Mul(y, dy)} })
}

// linear is x Wᵀ.
func linear(x, w *Node) *Node {
	product := func(a *Node, i int, b *Node, j int) *Node { return DotGeneral(a, []int{i}, nil, b, []int{j}, nil) }
	return Custom([]*Node{x, w}, func() *Node { return product(x, 1, w, 1) }, func(_, dy *Node) []*Node {
		return []*Node{product(dy, 1, w, 0), product(dy, 0, x, 0)}
	})
}

func plainLinear(x, w *Node) *Node { return DotGeneral(x, []int{1}, nil, w, []int{1}, nil) }

// total is the sum of all elements of x times b, a scalar.
func total(x, b *Node) *Node {
	return Custom([]*Node{x, b}, func() *Node { return ReduceAllSum(Mul(x, b)) }, func(_, dy *Node) []*Node {
		return []*Node{Mul(b, dy), Mul(x, dy)}
	})
}

// scaled is x times a vector of the width of its rows.
func scaled(x, gain *Node) *Node {
	row := func() *Node { return ExpandAxes(gain, 0) }
	return Custom([]*Node{x, gain}, func() *Node { return Mul(x, row()) }, func(_, dy *Node) []*Node {
		return []*Node{Mul(dy, row()), ReduceSum(Mul(dy, x), 0)}
	})
}

func plainScaled(x, gain *Node) *Node { return Mul(x, ExpandAxes(gain, 0)) }

var formulas = []formula{
	{"scalar", [][]int{{}}, func(x []*Node) *Node { return Square(x[0]) }, func(x []*Node) *Node { return square(x[0]) }},
	{"vector", [][]int{{5}}, func(x []*Node) *Node { return Square(x[0]) }, func(x []*Node) *Node { return square(x[0]) }},
	{"rank 3", [][]int{{2, 3, 4}}, func(x []*Node) *Node { return Square(x[0]) }, func(x []*Node) *Node { return square(x[0]) }},
	{"backward uses the result", [][]int{{2, 3}}, func(x []*Node) *Node { return Exp(x[0]) }, func(x []*Node) *Node { return exponential(x[0]) }},
	{"scalar of matrices", [][]int{{2, 3}, {2, 3}}, func(x []*Node) *Node { return ReduceAllSum(Mul(x[0], x[1])) },
		func(x []*Node) *Node { return total(x[0], x[1]) }},
	{"matrix product", [][]int{{4, 3}, {5, 3}}, func(x []*Node) *Node { return plainLinear(x[0], x[1]) },
		func(x []*Node) *Node { return linear(x[0], x[1]) }},
	{"inputs of different shapes", [][]int{{4, 3}, {3}}, func(x []*Node) *Node { return plainScaled(x[0], x[1]) },
		func(x []*Node) *Node { return scaled(x[0], x[1]) }},
	{"the same input twice", [][]int{{2, 3}}, func(x []*Node) *Node { return ReduceAllSum(Square(x[0])) },
		func(x []*Node) *Node { return total(x[0], x[0]) }},
	{"within other operations", [][]int{{4, 3}, {3}},
		func(x []*Node) *Node { return Tanh(plainScaled(Sin(x[0]), Exp(x[1]))) },
		func(x []*Node) *Node { return Tanh(scaled(Sin(x[0]), Exp(x[1]))) }},
	{"one in another", [][]int{{4, 3}, {5, 3}, {5}},
		func(x []*Node) *Node { return Exp(plainScaled(Square(plainLinear(x[0], x[1])), x[2])) },
		func(x []*Node) *Node { return exponential(scaled(square(linear(x[0], x[1])), x[2])) }},
	{"result used three times", [][]int{{2, 3}},
		func(x []*Node) *Node { y := Exp(x[0]); return Add(Mul(y, Sin(y)), MulScalar(y, 3)) },
		func(x []*Node) *Node { y := exponential(x[0]); return Add(Mul(y, Sin(y)), MulScalar(y, 3)) }},
	{"input used elsewhere too", [][]int{{2, 3}}, func(x []*Node) *Node { return Add(Square(x[0]), Sin(x[0])) },
		func(x []*Node) *Node { return Add(square(x[0]), Sin(x[0])) }},
	{"forward stops gradients inside", [][]int{{2, 3}}, func(x []*Node) *Node { return Square(x[0]) },
		func(x []*Node) *Node {
			return Custom(x, func() *Node { return AddScalar(Square(StopGradient(x[0])), 0) }, func(_, dy *Node) []*Node {
				return []*Node{Mul(MulScalar(x[0], 2), dy)}
			})
		}},
}

// TestCustom compares values and gradients with those of the plain formula, alone and inside Checkpoint.
func TestCustom(t *testing.T) {
	for _, f := range formulas {
		t.Run(f.name, func(t *testing.T) {
			in := randoms(f.in...)
			want := valueAndGradients(t, in, f.plain)
			for form, got := range map[string][][]float32{
				"custom": valueAndGradients(t, in, f.custom),
				"checkpointed": valueAndGradients(t, in, func(x []*Node) *Node {
					return Checkpoint(x[0], func(x0 *Node) *Node { return f.custom(append([]*Node{x0}, x[1:]...)) })
				}),
			} {
				same(t, form+": value", got[0], want[0])
				for i := range in {
					check.Close(t, fmt.Sprintf("%s: gradient of input %d", form, i), got[1+i], want[1+i], tol)
				}
			}
		})
	}
}

// TestCustomBelievesBackward gives wrong gradients and wants them back: nothing else computes the gradient.
func TestCustomBelievesBackward(t *testing.T) {
	got := valueAndGradients(t, []array{{[]int{3}, []float32{1, 2, 3}}, {[]int{2}, []float32{4, 5}}}, func(x []*Node) *Node {
		return Custom(x, func() *Node { return Mul(x[0], x[0]) }, func(y, dy *Node) []*Node {
			return []*Node{Add(MulScalar(dy, 100), y), AddScalar(MulScalar(x[1], 10), 7)}
		})
	})
	same(t, "gradient", got[1], []float32{-150 + 1, -125 + 4, -100 + 9}) // the adjoints are -1.5, -1.25, -1
	same(t, "gradient of an unused input", got[2], []float32{47, 57})
}

// TestCustomNil wants no gradient where backward returns nil, nor for what forward uses without saying so.
func TestCustomNil(t *testing.T) {
	got := valueAndGradients(t, randoms([]int{3}, []int{3}, []int{3}), func(x []*Node) *Node {
		return Custom(x[:2], func() *Node { return Mul(Mul(x[0], x[1]), x[2]) }, func(_, dy *Node) []*Node {
			return []*Node{nil, dy}
		})
	})
	same(t, "nil", got[1], make([]float32, 3))
	same(t, "given", got[2], []float32{-1.5, -1.25, -1})
	same(t, "not an input", got[3], make([]float32, 3))
}

// TestCustomSumsAdjointsFirst counts calls: three uses of the result are one call with the sum of their adjoints.
func TestCustomSumsAdjointsFirst(t *testing.T) {
	calls := 0
	got := run(t, randoms([]int{3}), func(x []*Node) []*Node {
		y := Custom(x, func() *Node { return Mul(x[0], x[0]) }, func(_, dy *Node) []*Node {
			calls++
			return []*Node{dy}
		})
		loss := ReduceAllSum(Add(Add(y, MulScalar(y, 10)), MulScalar(Neg(y), 100)))
		return Gradient(loss, x[0])
	})
	same(t, "adjoint", got[0], []float32{-89, -89, -89})
	if calls != 1 {
		t.Errorf("backward was called %d times, want once", calls)
	}
}

// TestCustomTwoLosses takes gradients of two losses in one graph.
func TestCustomTwoLosses(t *testing.T) {
	got := run(t, []array{{[]int{2}, []float32{3, 5}}}, func(x []*Node) []*Node {
		y := square(x[0])
		a, b := ReduceAllSum(y), ReduceAllSum(MulScalar(y, 10))
		return append(Gradient(a, x[0]), Gradient(b, x[0])...)
	})
	same(t, "first", got[0], []float32{6, 10})
	same(t, "second", got[1], []float32{60, 100})
}

// TestSecondDerivative differentiates a gradient: the second derivative of x³ is 6x, plain and checkpointed.
func TestSecondDerivative(t *testing.T) {
	cube := func(x *Node) *Node { return Mul(square(x), x) }
	for name, f := range map[string]func(x *Node) *Node{
		"custom":       cube,
		"checkpointed": func(x *Node) *Node { return Checkpoint(x, cube) },
	} {
		got := run(t, []array{{[]int{3}, []float32{1, -2, 3}}}, func(x []*Node) []*Node {
			slope := Gradient(ReduceAllSum(f(x[0])), x[0])[0]
			return Gradient(ReduceAllSum(slope), x[0])
		})
		same(t, name, got[0], []float32{6, -12, 18})
	}
}

// TestFiniteDifferences needs no autodiff to compare with: float64, central differences.
func TestFiniteDifferences(t *testing.T) {
	const h, tolerance = 1e-5, 1e-8 // the difference quotient is off by about h² and by eps64/h
	loss := func(x *Node) *Node {
		return weighted(Checkpoint(x, func(x *Node) *Node { return exponential(Mul(square(Sin(x)), x)) }))
	}
	b := check.Backend(t)
	value := MustNewExec(b, loss)
	slope := MustNewExec(b, func(x *Node) *Node { return Gradient(loss(x), x)[0] })
	at := []float64{0.3, -1.2, 0.7, 2.1}
	got := tensors.MustCopyFlatData[float64](slope.MustCall(at)[0])
	want := make([]float64, len(at))
	for i := range at {
		for _, side := range []float64{1, -1} {
			moved := append([]float64(nil), at...)
			moved[i] += side * h
			want[i] += side * tensors.ToScalar[float64](value.MustCall(moved)[0]) / (2 * h)
		}
	}
	check.Close(t, "gradient", got, want, tolerance)
}

// TestCustomCount refuses a backward that returns another number of gradients.
func TestCustomCount(t *testing.T) {
	_, x := newGraph(t, []int{3}, []int{3})
	err := graphx.Try(func() error {
		y := Custom(x, func() *Node { return Mul(x[0], x[1]) }, func(_, dy *Node) []*Node { return []*Node{dy} })
		Gradient(ReduceAllSum(y), x...)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "1 gradients for 2 inputs") {
		t.Errorf("got error %v", err)
	}
}

// TestUnwantedGradientsAreFree asks for the gradient of x alone, where that of w needs a large array.
func TestUnwantedGradientsAreFree(t *testing.T) {
	const large = 1000 * 1000 * 4
	build := func(wanted int) float64 {
		g, x := newGraphOn(t, creationOrder(t), []int{1000}, []int{1000})
		y := Custom(x, func() *Node { return Mul(x[0], x[1]) }, func(_, dy *Node) []*Node {
			outer := Mul(ExpandAxes(x[0], 0), ExpandAxes(dy, 1))
			return []*Node{Mul(dy, x[1]), ReduceSum(Exp(outer), 0)}
		})
		return peak(t, g, Gradient(weighted(y), x[wanted])...)
	}
	if bytes := build(0); bytes >= large/10 {
		t.Errorf("the gradient of x takes %.0f bytes: that of w was computed too", bytes)
	}
	if bytes := build(1); bytes < large {
		t.Errorf("the gradient of w takes %.0f bytes: the test measures nothing", bytes)
	}
}
