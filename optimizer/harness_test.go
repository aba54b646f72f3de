package optimizer

import (
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
)

// setting returns the defaults of an optimizer, changed.
func setting(t testing.TB, name string, changes ...func(*Config)) Config {
	t.Helper()
	cfg := must[Config](t)(Default(name))
	for _, change := range changes {
		change(&cfg)
	}
	return cfg
}

func mustNew(t testing.TB, cfg Config) *Optimizer {
	t.Helper()
	return must[*Optimizer](t)(New(cfg))
}

func noDecay(c *Config) { c.WeightDecay, c.Fallback.WeightDecay = 0, 0 }

// value is a variable to create: a matrix, or with vector set its elements in one row.
type value struct {
	path   string
	x      *mat.Dense
	spec   param.Spec
	vector bool
}

// newStore returns a store with float32 variables, tagged unless the role is "".
func newStore(t testing.TB, values ...value) *mlmodel.Store {
	t.Helper()
	store := mlmodel.NewStore()
	for _, v := range values {
		set(t, store, v)
	}
	return store
}

// set creates a variable.
func set(t testing.TB, store *mlmodel.Store, v value) *mlmodel.Variable {
	t.Helper()
	rows, cols := v.x.Dims()
	dims := []int{rows, cols}
	if v.vector {
		dims = []int{rows * cols}
	}
	made := store.VariableWithValue(v.path, tensors.FromFlatDataAndDimensions(oracle.Float32(v.x), dims...))
	if v.spec.Role != "" {
		if err := param.Tag(store, made, v.spec); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// get returns the value of a float32 variable; a vector is one row.
func get(t testing.TB, store *mlmodel.Store, path string) *mat.Dense {
	t.Helper()
	v := store.GetVariable(path)
	if v == nil {
		t.Fatalf("no variable %s", path)
	}
	dims := v.Shape().Dimensions
	rows, cols := 1, v.Shape().Size()
	if len(dims) == 2 {
		rows, cols = dims[0], dims[1]
	}
	return must[*mat.Dense](t)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](v.MustValue()), rows, cols))
}

// pairSpecs describes the two factors of a layer.
func pairSpecs(layer string, m, n int, s float64) (a, b param.Spec) {
	a = param.Spec{Role: param.Pair, FanOut: m, FanIn: n, Layer: layer, Side: param.SideA, Scale: s}
	b = a
	b.Side = param.SideB
	return a, b
}

// pair returns the two factors of a layer as variables /layer/A and /layer/B.
func pair(layer string, a, b *mat.Dense, s float64) []value {
	m, _ := a.Dims()
	n, _ := b.Dims()
	specA, specB := pairSpecs(layer, m, n, s)
	return []value{{path: "/" + layer + "/A", x: a, spec: specA}, {path: "/" + layer + "/B", x: b, spec: specB}}
}

// dense returns a hidden matrix as a variable.
func dense(path string, w *mat.Dense) value {
	m, n := w.Dims()
	return value{path: path, x: w, spec: param.Spec{Role: param.Hidden, FanOut: m, FanIn: n}}
}

// stepper applies updates from given gradients, in one compiled graph that holds nothing else.
type stepper struct {
	exec  *mlmodel.Exec
	built int // how often the graph was built
}

func newStepper(t testing.TB, store *mlmodel.Store, o *Optimizer, paths ...string) *stepper {
	t.Helper()
	s := &stepper{}
	exec, err := mlmodel.NewExec(check.Backend(t), store, func(scope *mlmodel.Scope, inputs []*Node) *Node {
		s.built++
		var updates []VarGrad
		for i, path := range paths {
			v := store.GetVariable(path)
			updates = append(updates, VarGrad{v, Reshape(inputs[i], v.Shape().Dimensions...)})
		}
		o.Apply(scope, inputs[0].Graph(), updates)
		return inputs[0]
	})
	if err != nil {
		t.Fatal(err)
	}
	s.exec = exec
	t.Cleanup(exec.Finalize)
	return s
}

// try applies one update and returns its error.
func (s *stepper) try(grads ...*mat.Dense) error {
	var args []any
	for _, g := range grads {
		rows, cols := g.Dims()
		args = append(args, tensors.FromFlatDataAndDimensions(oracle.Float32(g), rows, cols))
	}
	_, err := s.exec.Call(args...)
	return err
}

// step applies one update.
func (s *stepper) step(t testing.TB, grads ...*mat.Dense) {
	t.Helper()
	if err := s.try(grads...); err != nil {
		t.Fatal(err)
	}
}

// after returns the values of the variables after one update from each list of gradients.
func after(t testing.TB, cfg Config, values []value, grads ...[]*mat.Dense) []*mat.Dense {
	t.Helper()
	store := newStore(t, values...)
	var paths []string
	for _, v := range values {
		paths = append(paths, v.path)
	}
	s := newStepper(t, store, mustNew(t, cfg), paths...)
	for _, g := range grads {
		s.step(t, g...)
	}
	var out []*mat.Dense
	for _, path := range paths {
		out = append(out, get(t, store, path))
	}
	return out
}
