package manifold

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/matfn"
)

// precision is a dtype with the options that functions are called with in it.
type precision struct {
	name   string
	double bool
	opts   []matfn.Option
}

var (
	single = precision{name: "float32"}
	double = precision{name: "float64", double: true, opts: []matfn.Option{matfn.WithExact()}}
)

// call runs fn on matrices, one graph input each, and returns its results as rows x cols matrices in the order of their rows.
func (p precision) call(t testing.TB, fn func(in []*Node) []*Node, args ...*mat.Dense) [][]float64 {
	t.Helper()
	exec, err := NewExec(check.Backend(t), func(in []*Node) []*Node { return fn(in) })
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	inputs := make([]any, len(args))
	for i, a := range args {
		inputs[i] = p.tensor(a)
	}
	outputs, err := exec.Call(inputs...)
	if err != nil {
		t.Fatal(err)
	}
	flat := make([][]float64, len(outputs))
	for i, o := range outputs {
		if p.double {
			flat[i] = tensors.MustCopyFlatData[float64](o)
			continue
		}
		for _, v := range tensors.MustCopyFlatData[float32](o) {
			flat[i] = append(flat[i], float64(v))
		}
	}
	return flat
}

// tensor stacks matrices of one shape as [k, m, n]; one alone is [m, n].
func (p precision) tensor(xs ...*mat.Dense) *tensors.Tensor {
	m, n := xs[0].Dims()
	dims := []int{len(xs), m, n}
	if len(xs) == 1 {
		dims = dims[1:]
	}
	var narrow []float32
	var wide []float64
	for _, x := range xs {
		narrow = append(narrow, oracle.Float32(x)...)
		wide = append(wide, mat.DenseCopyOf(x).RawMatrix().Data...)
	}
	if p.double {
		return tensors.FromFlatDataAndDimensions(wide, dims...)
	}
	return tensors.FromFlatDataAndDimensions(narrow, dims...)
}

// apply runs a function whose result has the shape of its first argument.
func (p precision) apply(t testing.TB, fn func(in []*Node) *Node, args ...*mat.Dense) *mat.Dense {
	t.Helper()
	m, n := args[0].Dims()
	return mat.NewDense(m, n, p.call(t, func(in []*Node) []*Node { return []*Node{fn(in)} }, args...)[0])
}

// round returns x as p sees it, so that the oracle gets the numbers that the code under test gets.
func (p precision) round(t testing.TB, x *mat.Dense) *mat.Dense {
	t.Helper()
	if p.double {
		return x
	}
	m, n := x.Dims()
	return must[*mat.Dense](t)(oracle.FromFloat32(oracle.Float32(x), m, n))
}

// must returns v, or fails the test.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func sub(x, y *mat.Dense) *mat.Dense {
	out := new(mat.Dense)
	out.Sub(x, y)
	return out
}

func add(x, y *mat.Dense) *mat.Dense {
	out := new(mat.Dense)
	out.Add(x, y)
	return out
}

func scaled(c float64, x *mat.Dense) *mat.Dense {
	out := new(mat.Dense)
	out.Scale(c, x)
	return out
}

// norm is the Frobenius norm.
func norm(x *mat.Dense) float64 { return mat.Norm(x, 2) }

// dot is the inner product.
func dot(x, y *mat.Dense) float64 {
	var product mat.Dense
	product.MulElem(x, y)
	return mat.Sum(&product)
}

// relative returns ‖got - want‖/‖want‖; NaN is infinitely far.
func relative(got, want *mat.Dense) float64 {
	d := norm(sub(got, want))
	switch {
	case math.IsNaN(d):
		return math.Inf(1)
	case d == 0:
		return 0
	}
	return d / norm(want)
}

// member is a matrix of a set.
type member struct {
	set  Set
	name string // where its values lie
	w    *mat.Dense
}

// members returns matrices of every set and of the given dimensions: with values at the bounds, inside, and both.
func members(t testing.TB, m, n int) (out []member) {
	k := min(m, n)
	values := func(parts ...[2]float64) []float64 { // (share, value); a negative value is spread inside (0.2, 0.8) of it
		var list []float64
		for _, part := range parts {
			count := int(math.Round(part[0] * float64(k)))
			for i := range count {
				v := part[1]
				if math.IsNaN(v) {
					v = 0.2 + 0.6*float64(i)/float64(count)
				}
				list = append(list, v)
			}
		}
		for len(list) < k {
			list = append(list, parts[0][1])
		}
		return list[:k]
	}
	inside := math.NaN()
	shapes := map[string][]float64{ // positions between a lower bound 0 and an upper bound 1
		"lower": values([2]float64{1, 0}), "upper": values([2]float64{1, 1}), "both": values([2]float64{0.5, 0}, [2]float64{0.5, 1}),
		"inside": values([2]float64{1, inside}), "mixed": values([2]float64{0.3, 0}, [2]float64{0.3, 1}, [2]float64{0.4, inside}),
	}
	addMember := func(s Set, name string, f func(position float64) float64) {
		list := shapes[name]
		mapped := make([]float64, k)
		for i, v := range list {
			if math.IsNaN(v) { // rounding left one over
				v = 0.5
			}
			mapped[i] = f(v)
		}
		seed := uint64(100*m + n + len(out))
		var w *mat.Dense
		if s.Symmetric() {
			w = must[*mat.Dense](t)(oracle.WithEigenvalues(seed, mapped))
		} else {
			w = must[*mat.Dense](t)(oracle.WithSingularValues(seed, m, n, mapped))
		}
		out = append(out, member{s, name, w})
	}
	for _, name := range []string{"lower", "upper", "both", "inside", "mixed"} {
		addMember(Set{Name: Ball, Radius: 2.5}, name, func(p float64) float64 { return 2.5 * p })
		addMember(Set{Name: Band, Lo: 0.5, Hi: 2}, name, func(p float64) float64 { return 0.5 + 1.5*p })
		if m == n {
			addMember(Set{Name: PSD}, name, func(p float64) float64 { return 3 * p })
			addMember(Set{Name: Spectrahedron, Lo: -1, Hi: 2}, name, func(p float64) float64 { return -1 + 3*p })
		}
	}
	addMember(Set{Name: Stiefel}, "upper", func(float64) float64 { return 1 })
	return out
}

var testShapes = [][2]int{{12, 7}, {7, 12}, {9, 9}, {40, 24}, {24, 40}, {32, 32}, {70, 48}, {1, 5}, {5, 1}, {1, 1}}
