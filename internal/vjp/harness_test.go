package vjp

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"regexp"
	"strconv"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/check"
	"k8s.io/klog/v2"
)

// eps is float32's. Gradients that are computed in another order may differ by a few roundings.
const (
	eps = 1.2e-7
	tol = 16 * eps
)

// array is an argument of a graph: values in row-major order.
type array struct {
	dims   []int
	values []float32
}

// random returns an array of numbers in [-1, 1), the same for a seed.
func random(seed uint64, dims ...int) array {
	rng, size := rand.New(rand.NewPCG(seed, 1)), 1
	for _, d := range dims {
		size *= d
	}
	a := array{dims, make([]float32, size)}
	for i := range a.values {
		a.values[i] = 2*rng.Float32() - 1
	}
	return a
}

// randoms returns one array for each shape.
func randoms(dims ...[]int) (in []array) {
	for i, d := range dims {
		in = append(in, random(uint64(i), d...))
	}
	return in
}

// run executes a graph of the arrays and returns the values of its outputs.
func run(t *testing.T, in []array, build func(x []*Node) []*Node) [][]float32 {
	t.Helper()
	arguments := make([]any, len(in))
	for i, a := range in {
		arguments[i] = tensors.FromFlatDataAndDimensions(a.values, a.dims...)
	}
	exec := MustNewExec(check.Backend(t), build)
	defer exec.Finalize()
	var out [][]float32
	for _, result := range exec.MustCall(arguments...) {
		out = append(out, tensors.MustCopyFlatData[float32](result))
	}
	return out
}

// valueAndGradients runs y = f(x) and returns y and the gradients of Σ y·c with respect to every x, where no two of the
// weights c are equal.
func valueAndGradients(t *testing.T, in []array, f func(x []*Node) *Node) [][]float32 {
	t.Helper()
	return run(t, in, func(x []*Node) []*Node {
		y := f(x)
		return append([]*Node{y}, Gradient(weighted(y), x...)...)
	})
}

// weighted is a scalar whose adjoint is different for every element of y.
func weighted(y *Node) *Node {
	if y.IsScalar() {
		return MulScalar(y, 1.5)
	}
	c := AddScalar(MulScalar(IotaFull(y.Graph(), y.Shape()), 0.25), -1.5)
	return ReduceAllSum(Mul(y, c))
}

// same fails the test unless the arrays are equal bit for bit.
func same(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: [%d] is %v, want exactly %v", name, i, got[i], want[i])
			return
		}
	}
}

// newGraph returns a graph and a float32 parameter of each shape.
func newGraph(t *testing.T, dims ...[]int) (*Graph, []*Node) {
	t.Helper()
	return newGraphOn(t, check.Backend(t), dims...)
}

func newGraphOn(t *testing.T, b compute.Backend, dims ...[]int) (*Graph, []*Node) {
	t.Helper()
	g := NewGraph(b, t.Name())
	t.Cleanup(g.Finalize)
	x := make([]*Node, len(dims))
	for i, d := range dims {
		x[i] = Parameter(g, "x"+strconv.Itoa(i), shapes.Make(dtypes.Float32, d...))
	}
	return g, x
}

var estimate = regexp.MustCompile(`function "main": estimated max temporary memory: ([0-9.]+) (B|KiB|MiB|GiB)`)

// creationOrder opens the Go backend that executes a graph in the order it was built. Its other order, dependency_order,
// puts off everything that few steps follow, such as the gradients of all weights, to the end, and so keeps what they
// are computed from: with it Checkpoint saves nothing.
func creationOrder(t *testing.T) compute.Backend {
	t.Helper()
	b, err := backend.Open("go:ops_sequential,creation_order")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Finalize)
	return b
}

// peak compiles a graph of the Go backend and returns what that logs as its largest temporary memory, in bytes.
func peak(t *testing.T, g *Graph, outputs ...*Node) float64 {
	t.Helper()
	var log bytes.Buffer
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	set := func(verbosity, stderr string) {
		for name, value := range map[string]string{"v": verbosity, "logtostderr": stderr, "stderrthreshold": "FATAL"} {
			if err := flags.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	set("1", "false")
	klog.SetOutput(&log)
	err := g.Compile(outputs...)
	klog.Flush()
	set("0", "true")
	klog.SetOutput(nil)
	if err != nil {
		t.Fatal(err)
	}
	found := estimate.FindStringSubmatch(log.String())
	if found == nil {
		t.Fatalf("the backend logged no memory estimate: %s", log.String())
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value * map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[found[2]]
}
