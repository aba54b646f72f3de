package model

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/param"
)

// estimated is a decoder whose embedding is small beside its blocks.
func estimated(t *testing.T, architecture string, change func(c *Config)) *Decoder {
	t.Helper()
	d, err := New(small(architecture, func(c *Config) {
		c.VocabSize, c.Hidden, c.Intermediate, c.Layers, c.MaxPositions = 300, 128, 512, 6, 1024
		if change != nil {
			change(c)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// workload builds the graph that w describes and returns its outputs: the loss and the gradients of what trains.
func workload(t *testing.T, d *Decoder, w Workload) []*Node {
	t.Helper()
	opened, err := backend.Open("go") // attends in blocks of products, which the estimate counts
	if err != nil {
		t.Fatal(err)
	}
	g := NewGraph(opened, t.Name())
	t.Cleanup(g.Finalize)
	store := zeros(d)
	var trained []*Node
	variable := func(path string, dims ...int) *Node {
		return store.VariableWithValue(path, tensors.FromScalarAndDimensions(float32(0), dims...)).NodeValue(g)
	}
	opts := Options{Checkpoint: w.Checkpoint}
	if w.Rank > 0 {
		pairs := map[string][2]*Node{}
		for _, layer := range d.Layers() {
			name := "/pairs/" + strings.ReplaceAll(layer.Name, ".", "_")
			pairs[layer.Name] = [2]*Node{variable(name+"/A", layer.FanOut, w.Rank), variable(name+"/B", layer.FanIn, w.Rank)}
			trained = append(trained, pairs[layer.Name][0], pairs[layer.Name][1])
		}
		opts.Linear = func(x *Node, layer param.Layer) *Node {
			low := vjp.Times(vjp.Times(x, pairs[layer.Name][1], 0), pairs[layer.Name][0], 1)
			if w.Scratch {
				return low
			}
			return Add(low, vjp.Times(x, store.GetVariable(layer.Weight).NodeValue(g), 1))
		}
	} else {
		for _, p := range d.Parameters() {
			trained = append(trained, store.GetVariable(p.Path()).NodeValue(g))
		}
	}
	input := func(name string, dtype dtypes.DType) *Node {
		return Parameter(g, name, shapes.Make(dtype, w.Rows, w.Length))
	}
	in := Inputs{Tokens: input("tokens", dtypes.Int32), Targets: input("targets", dtypes.Int32), Weights: input("weights", dtypes.Float32)}
	loss, _ := d.Loss(store, in, opts)
	return append([]*Node{loss}, Gradient(loss, trained...)...)
}

var contracted = regexp.MustCompile(`lhsContractingAxes=\[([0-9 ]*)\]`)

// productFlops counts the operations of all products that the outputs need: 2 for each element of a product and each term of
// its sum. Outer products, which scale rows, have one term and are left out, as are products of vectors.
func productFlops(t *testing.T, outputs []*Node) (total float64) {
	t.Helper()
	seen := map[*Node]bool{}
	stack := outputs
	for len(stack) > 0 {
		node := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[node] {
			continue
		}
		seen[node] = true
		stack = append(stack, node.Inputs()...)
		if node.Type() != NodeTypeDotGeneral {
			continue
		}
		found := contracted.FindStringSubmatch(node.String())
		if found == nil {
			t.Fatalf("no contracting axes in %s", node)
		}
		terms := 1
		for _, axis := range strings.Fields(found[1]) {
			i, _ := strconv.Atoi(axis)
			terms *= node.Inputs()[0].Shape().Dim(i)
		}
		if terms > 1 && node.Rank() > 1 {
			total += 2 * float64(node.Shape().Size()) * float64(terms)
		}
	}
	return total
}

// TestEstimateFlops holds the estimate against the products of the graph that is built. It leaves out the rotation's products
// (up to 3% here) and counts all of a recomputed block, of which the last product is not needed (6%).
func TestEstimateFlops(t *testing.T) {
	const tol = 0.07
	for _, c := range []struct {
		name, architecture string
		w                  Workload
		change             func(c *Config)
	}{
		{"dense", "llama", Workload{Rows: 2, Length: 128}, nil},
		{"dense gpt2", "gpt2", Workload{Rows: 2, Length: 128}, nil},
		{"dense, long", "llama", Workload{Rows: 1, Length: 1024}, nil},
		{"dense, long, recomputed", "llama", Workload{Rows: 1, Length: 1024, Checkpoint: true}, nil},
		{"window", "mistral", Workload{Rows: 1, Length: 1024}, func(c *Config) { c.SlidingWindow = 64 }},
		{"large vocabulary", "llama", Workload{Rows: 2, Length: 128}, func(c *Config) { c.VocabSize = 20000 }},
		{"recomputed", "llama", Workload{Rows: 2, Length: 128, Checkpoint: true}, nil},
		{"pairs", "llama", Workload{Rows: 2, Length: 128, Rank: 16}, nil},
		{"pairs, large vocabulary", "llama", Workload{Rows: 2, Length: 128, Rank: 16}, func(c *Config) { c.VocabSize = 20000 }},
		{"pairs, recomputed", "llama", Workload{Rows: 2, Length: 128, Rank: 16, Checkpoint: true}, nil},
		{"pairs alone", "lab", Workload{Rows: 2, Length: 128, Rank: 64, Scratch: true}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := estimated(t, c.architecture, c.change)
			got, want := Estimate(d, c.w).Flops, productFlops(t, workload(t, d, c.w))
			if math.Abs(got/want-1) > tol {
				t.Errorf("the estimate is %.4g operations, the graph has %.4g: %+.1f%%", got, want, 100*(got/want-1))
			}
		})
	}
}

// TestEstimateDense: where the embedding is small, training costs six operations a parameter and token, and the attention's
// six products.
func TestEstimateDense(t *testing.T) {
	d := estimated(t, "llama", nil)
	w := Workload{Rows: 3, Length: 64}
	tokens := 3.0 * 64
	scores := 64 * tokens * float64(d.cfg.Heads*d.cfg.Layers) // one block of 64 queries: the full square
	want := 6*float64(d.Size())*tokens + 6*2*scores*float64(d.cfg.HeadDim)
	if got := Estimate(d, w).Flops; math.Abs(got/want-1) > 0.03 { // the embedding's 38,400 of 1.6 million parameters
		t.Errorf("%g operations, want about %g", got, want)
	}
}

// TestEstimateGrows: what needs more is estimated to need more.
func TestEstimateGrows(t *testing.T) {
	d := estimated(t, "llama", nil)
	base := Workload{Rows: 2, Length: 128, Rank: 8}
	for _, c := range []struct {
		name         string
		change       func(w *Workload)
		bytes, flops int // the sign of the difference to base
	}{
		{"rows", func(w *Workload) { w.Rows = 3 }, 1, 1},
		{"length", func(w *Workload) { w.Length = 129 }, 1, 1},
		{"rank", func(w *Workload) { w.Rank = 9 }, 1, 1},
		{"dense", func(w *Workload) { w.Rank = 0 }, 1, 1},
		{"checkpoint", func(w *Workload) { w.Checkpoint = true }, -1, 1},
		{"scratch", func(w *Workload) { w.Scratch = true }, -1, -1},
	} {
		w := base
		c.change(&w)
		before, after := Estimate(d, base), Estimate(d, w)
		if sign(after.Bytes-before.Bytes) != c.bytes || sign(int64(after.Flops-before.Flops)) != c.flops {
			t.Errorf("%s: from %+v to %+v", c.name, before, after)
		}
	}
	// Attention makes twice the length cost more than twice the operations, twice the rows exactly twice.
	dense := func(rows, length int) Cost { return Estimate(d, Workload{Rows: rows, Length: length}) }
	one, rows, length := dense(1, 512), dense(2, 512), dense(1, 1024)
	if rows.Flops != 2*one.Flops || length.Flops <= rows.Flops {
		t.Errorf("operations of 1x512 %g, 2x512 %g, 1x1024 %g", one.Flops, rows.Flops, length.Flops)
	}
	if parameters := 16 * d.Size(); one.Bytes < parameters { // weights, gradients and two moments
		t.Errorf("%d bytes for dense training, less than the parameters' %d", one.Bytes, parameters)
	}
}

func sign(x int64) int {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}
