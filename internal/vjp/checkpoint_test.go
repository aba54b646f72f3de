package vjp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/graphx"
)

// A perceptron block with a residual, as in a transformer: [tokens, width] -> [tokens, wide] -> [tokens, width].
const (
	tokens, width, wide = 8, 4, 64
)

type wrapper func(x *Node, block func(x *Node) *Node, constants ...*Node) *Node

// plain is Checkpoint's counterpart that keeps everything.
func plain(x *Node, block func(x *Node) *Node, _ ...*Node) *Node { return block(x) }

func perceptron(up, down *Node) func(x *Node) *Node {
	return func(x *Node) *Node { return Add(x, plainLinear(Tanh(plainLinear(x, up)), down)) }
}

// customPerceptron is perceptron with operations that have gradients of their own.
func customPerceptron(up, down *Node) func(x *Node) *Node {
	return func(x *Node) *Node { return Add(x, linear(exponential(linear(x, up)), down)) }
}

// weights are the shapes of x and of n pairs of matrices.
func weights(n int) [][]int {
	dims := [][]int{{tokens, width}}
	for range n {
		dims = append(dims, []int{wide, width}, []int{width, wide})
	}
	return dims
}

// TestCheckpoint wants values and gradients bit for bit as without it. Every node of in is an input of f.
func TestCheckpoint(t *testing.T) {
	for _, c := range []struct {
		name string
		in   [][]int
		f    func(wrap wrapper, x []*Node) *Node
		// rounded: adjoints of one node arrive in another order, and their sum may round differently.
		rounded bool
	}{
		{name: "one block", in: weights(1), f: func(wrap wrapper, x []*Node) *Node { return wrap(x[0], perceptron(x[1], x[2])) }},
		{name: "two in sequence", in: weights(2), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(wrap(x[0], perceptron(x[1], x[2])), perceptron(x[3], x[4]))
		}},
		{name: "the same weights twice", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(wrap(x[0], perceptron(x[1], x[2])), perceptron(x[1], x[2]))
		}},
		{name: "own gradients inside", in: weights(2), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(wrap(x[0], customPerceptron(x[1], x[2])), customPerceptron(x[3], x[4]))
		}},
		{name: "one in another", in: weights(2), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(x[0], func(h *Node) *Node {
				return Sin(wrap(wrap(Sin(h), perceptron(x[1], x[2])), customPerceptron(x[3], x[4])))
			})
		}},
		{name: "weights that are computed outside", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(x[0], perceptron(Sin(x[1]), Exp(x[2])))
		}},
		{name: "scalar result", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(x[0], func(h *Node) *Node { return ReduceAllSum(perceptron(x[1], x[2])(h)) })
		}},
		{name: "x is computed and used elsewhere", in: weights(1), rounded: true, f: func(wrap wrapper, x []*Node) *Node {
			h := Sin(x[0])
			return Add(wrap(h, perceptron(x[1], x[2])), Exp(h))
		}},
		{name: "x also through the closure", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(Sin(x[0]), func(h *Node) *Node { return Mul(perceptron(x[1], x[2])(h), x[0]) })
		}},
		{name: "an earlier block through the closure", in: weights(3), rounded: true, f: func(wrap wrapper, x []*Node) *Node {
			a := wrap(x[0], customPerceptron(x[1], x[2]))
			b := wrap(Sin(a), perceptron(x[3], x[4]))
			return wrap(b, func(h *Node) *Node { return linear(linear(square(Mul(h, a)), x[5]), x[6]) })
		}},
		{name: "result not used by all", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return Slice(wrap(x[0], perceptron(x[1], x[2])), AxisRange(1, 3))
		}},
		{name: "returns x", in: weights(0), f: func(wrap wrapper, x []*Node) *Node { return wrap(x[0], func(h *Node) *Node { return h }) }},
		{name: "ignores x", in: weights(1), f: func(wrap wrapper, x []*Node) *Node { return wrap(x[0], func(*Node) *Node { return x[1] }) }},
		{name: "mask of integers", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			mask := GreaterThan(IotaFull(x[0].Graph(), shapes.Make(dtypes.Int32, tokens, width)), Const(x[0].Graph(), int32(9)))
			return wrap(x[0], func(h *Node) *Node { h = perceptron(x[1], x[2])(h); return Where(mask, h, Sin(h)) })
		}},
		{name: "stopped outside", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(x[0], perceptron(StopGradient(x[1]), StopGradient(Sin(x[2]))))
		}},
		{name: "stopped inside", in: weights(1), f: func(wrap wrapper, x []*Node) *Node {
			return wrap(x[0], func(h *Node) *Node { return Mul(perceptron(x[1], StopGradient(x[2]))(h), StopGradient(h)) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := randoms(c.in...)
			got := valueAndGradients(t, in, func(x []*Node) *Node { return c.f(Checkpoint, x) })
			want := valueAndGradients(t, in, func(x []*Node) *Node { return c.f(plain, x) })
			same(t, "value", got[0], want[0])
			for i := range in {
				if c.rounded {
					check.Close(t, fmt.Sprintf("gradient of input %d", i), got[1+i], want[1+i], tol)
					continue
				}
				same(t, fmt.Sprintf("gradient of input %d", i), got[1+i], want[1+i])
			}
		})
	}
}

// TestCheckpointRefusesDependentNodes guards against counting a gradient twice: once inside the block and once outside.
func TestCheckpointRefusesDependentNodes(t *testing.T) {
	for name, c := range map[string]struct {
		refused bool
		outer   func(w *Node) *Node
		plus    func(outer *Node) []*Node // constants
	}{
		"computed from it":                  {true, func(w *Node) *Node { return Exp(Sin(w)) }, nil},
		"a constant computed from it":       {true, Sin, func(outer *Node) []*Node { return []*Node{outer} }},
		"the same":                          {false, func(w *Node) *Node { return w }, nil},
		"computed from it without gradient": {false, func(w *Node) *Node { return StopGradient(Sin(w)) }, nil},
	} {
		_, x := newGraph(t, []int{3}, []int{3})
		err := graphx.Try(func() error {
			outer := c.outer(x[1])
			var constants []*Node
			if c.plus != nil {
				constants = c.plus(outer)
			}
			Checkpoint(x[0], func(h *Node) *Node { return Add(Mul(h, outer), x[1]) }, constants...)
			return nil
		})
		if refused := err != nil && strings.Contains(err.Error(), "computed from it"); refused != c.refused {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

// TestCheckpointConstants leaves out exactly what is listed.
func TestCheckpointConstants(t *testing.T) {
	in := randoms(weights(1)...)
	f := func(constants func(x []*Node) []*Node) [][]float32 {
		return valueAndGradients(t, in, func(x []*Node) *Node {
			return Checkpoint(x[0], perceptron(x[1], x[2]), constants(x)...)
		})
	}
	all := f(func(x []*Node) []*Node { return nil })
	some := f(func(x []*Node) []*Node { return x[1:2] })
	for i, want := range [][]float32{all[0], all[1], make([]float32, wide*width), all[3]} {
		same(t, fmt.Sprintf("output %d", i), some[i], want)
	}
	if slices.Max(all[2]) == 0 {
		t.Error("the gradient is zero without constants too")
	}
}

// TestCheckpointParameterMadeInside reaches a parameter that the graph does not have before the block.
func TestCheckpointParameterMadeInside(t *testing.T) {
	g, x := newGraph(t, []int{3})
	var w *Node
	y := Checkpoint(x[0], func(x *Node) *Node {
		if w == nil {
			w = Parameter(g, "late", shapes.Make(dtypes.Float32, 3))
		}
		return Mul(x, w)
	})
	if err := g.Compile(Gradient(ReduceAllSum(y), w)...); err != nil {
		t.Fatal(err)
	}
	in, late := random(0, 3), random(1, 3)
	same(t, "gradient", g.Run(in.values, late.values)[0].Value().([]float32), in.values)
}

// TestCheckpointIntegers takes token numbers in and looks them up.
func TestCheckpointIntegers(t *testing.T) {
	got := map[string][]float32{}
	for name, wrap := range map[string]wrapper{"checkpointed": Checkpoint, "plain": plain} {
		got[name] = run(t, randoms([]int{6, 2}), func(x []*Node) []*Node {
			ids := Const(x[0].Graph(), []int32{3, 0, 3, 5})
			found := wrap(ids, func(ids *Node) *Node { return Sin(Gather(x[0], ExpandAxes(ids, -1))) })
			return Gradient(weighted(found), x[0])
		})[0]
	}
	same(t, "gradient", got["checkpointed"], got["plain"])
}

// TestCheckpointGrowth guards against the gradient of one block containing those of all before it: nodes that doubled
// with every block, and made thirty blocks impossible to build.
func TestCheckpointGrowth(t *testing.T) {
	added := func(blocks int) int {
		g, x := newGraph(t, weights(blocks)...)
		y := x[0]
		for i := range blocks {
			y = Checkpoint(y, customPerceptron(x[2*i+1], x[2*i+2]))
		}
		before := len(g.Nodes())
		Gradient(weighted(y), x...)
		return len(g.Nodes()) - before
	}
	four, eight, twelve := added(4), added(8), added(12)
	if twelve-eight != eight-four {
		t.Errorf("the gradient of 4, 8, 12 blocks adds %d, %d, %d nodes: not a line", four, eight, twelve)
	}
}

// TestCheckpointKeepsNothing lets the backend tell the peak of a chain of blocks with the gradients of all weights.
// Without Checkpoint each block adds its arrays of tokens x wide, with it only its input.
func TestCheckpointKeepsNothing(t *testing.T) {
	const few, many, long = 4, 16, 512
	const input, inner = long * width * 4, long * wide * 4 // bytes
	peakOf := func(wrap wrapper, blocks int) float64 {
		dims := weights(blocks)
		dims[0] = []int{long, width}
		g, x := newGraphOn(t, creationOrder(t), dims...)
		y := x[0]
		for i := range blocks {
			y = wrap(y, customPerceptron(x[2*i+1], x[2*i+2]))
		}
		return peak(t, g, Gradient(weighted(y), x...)...)
	}
	growth := func(wrap wrapper) float64 { return (peakOf(wrap, many) - peakOf(wrap, few)) / (many - few) }
	if bytes := growth(plain); bytes < inner {
		t.Errorf("without Checkpoint a block adds %.0f bytes, fewer than the %d it has to keep: the test measures nothing", bytes, inner)
	}
	if bytes := growth(Checkpoint); bytes > 2*input {
		t.Errorf("with Checkpoint a block adds %.0f bytes, want about the %d of its input", bytes, input)
	}
}

// isWide tells whether node is one of those that Checkpoint is not to keep. Constants are merged and not computed.
func isWide(node *Node) bool {
	return node.Shape().Equal(shapes.Make(dtypes.Float32, tokens, wide)) && len(node.Inputs()) > 0 && !node.Inputs()[0].IsScalar()
}

// isComputedFrom tells whether there is a way from source to node.
func isComputedFrom(node, source *Node) bool {
	return node == source || slices.ContainsFunc(node.Inputs(), func(n *Node) bool { return isComputedFrom(n, source) })
}

// TestRecomputationIsNotMerged looks at the backend's own nodes: the engine merges equal expressions, which would turn
// the second computation back into the first.
func TestRecomputationIsNotMerged(t *testing.T) {
	g, x := newGraph(t, weights(1)...)
	// mark collects the backend's nodes of shape [tokens, wide], those made from the given one on.
	mark := func(from int) map[compute.Value]bool {
		found := map[compute.Value]bool{}
		for _, node := range g.Nodes()[from:] {
			if isWide(node) {
				found[InternalBackendOutputs(node)[0]] = true
			}
		}
		return found
	}
	shared := func(a, b map[compute.Value]bool) (n int) {
		for value := range a {
			if b[value] {
				n++
			}
		}
		return n
	}
	block := perceptron(x[1], x[2])
	y := Checkpoint(x[0], block)
	first, built := mark(0), len(g.Nodes())
	Gradient(ReduceAllSum(Square(y)), x...)
	second := mark(built)
	if len(first) < 2 || len(second) < len(first) {
		t.Errorf("%d wide nodes forward and %d backward: the block is not computed again", len(first), len(second))
	}
	if n := shared(first, second); n != 0 {
		t.Errorf("%d of %d wide nodes of the recomputation are the first computation's", n, len(first))
	}
	for _, node := range g.Nodes()[built:] {
		if isWide(node) && !isComputedFrom(node, y) {
			t.Errorf("%s may be computed before the adjoint is there", node)
		}
	}
	built = len(g.Nodes())
	block(x[0])
	if n := shared(first, mark(built)); n == 0 {
		t.Error("this engine merges nothing: the test measures nothing")
	}
}
