package adapter

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/param"
	"gonum.org/v1/gonum/mat"
)

// eps32 is the spacing of float32 at 1.
const eps32 = 1.0 / (1 << 23)

// testLayers describes two blocks of a small Llama: square, tall and wide weights.
func testLayers() []param.Layer {
	sizes := []struct {
		name string
		m, n int
	}{
		{"self_attn.q_proj", 24, 24}, {"self_attn.k_proj", 12, 24}, {"self_attn.v_proj", 12, 24}, {"self_attn.o_proj", 24, 24},
		{"mlp.gate_proj", 40, 24}, {"mlp.up_proj", 40, 24}, {"mlp.down_proj", 24, 40},
	}
	var out []param.Layer
	for block := range 2 {
		for _, size := range sizes {
			name := fmt.Sprintf("model.layers.%d.%s", block, size.name)
			out = append(out, param.Layer{Name: name, FanOut: size.m, FanIn: size.n, Weight: param.Path(name + ".weight")})
		}
	}
	return out
}

// gpt2Layers describes one block of GPT-2.
func gpt2Layers() []param.Layer {
	var out []param.Layer
	for _, l := range []struct {
		name string
		m, n int
	}{{"h.0.attn.c_attn", 48, 16}, {"h.0.attn.c_proj", 16, 16}, {"h.0.mlp.c_fc", 64, 16}, {"h.0.mlp.c_proj", 16, 64}} {
		name := "transformer." + l.name
		out = append(out, param.Layer{Name: name, FanOut: l.m, FanIn: l.n, Weight: param.Path(name + ".weight"), Conv1D: true})
	}
	return out
}

func testStore(layers []param.Layer, seed uint64) *mlmodel.Store {
	store := mlmodel.NewStore()
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, layer := range layers {
		store.VariableWithValue(layer.Weight, tensors.FromFlatDataAndDimensions(randomValues(layer.FanOut*layer.FanIn, rng), layer.FanOut, layer.FanIn))
	}
	return store
}

func randomValues(count int, rng *rand.Rand) []float32 {
	out := make([]float32, count)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

func randomGradients(layers []param.Layer) map[string][]float32 {
	rng := rand.New(rand.NewPCG(9, 9))
	out := make(map[string][]float32)
	for _, layer := range layers {
		out[layer.Name] = randomValues(layer.FanOut*layer.FanIn, rng)
	}
	return out
}

func weightsOf(t *testing.T, store *mlmodel.Store, layers []param.Layer) map[string][]float32 {
	t.Helper()
	out := make(map[string][]float32)
	for _, layer := range layers {
		data, err := values(store, layer.Weight)
		if err != nil {
			t.Fatal(err)
		}
		out[layer.Name] = data
	}
	return out
}

// train moves every factor by a random step of the given relative size, as an optimizer would.
func train(t *testing.T, s *Set, size float64, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 77))
	for _, p := range s.pairs {
		for _, side := range []param.Side{param.SideA, param.SideB} {
			v := s.store.GetVariable(factorPath("/adapter", p.layer.Name, side))
			data := tensors.MustCopyFlatData[float32](v.MustValue())
			for i := range data {
				data[i] += float32(size * rng.NormFloat64())
			}
			if err := v.SetValue(tensors.FromFlatDataAndDimensions(data, v.Shape().Dimensions...)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// effective returns W + s·A Bᵀ of every adapted layer in float64, from the store.
func effective(t *testing.T, s *Set) map[string][]float64 {
	t.Helper()
	out := make(map[string][]float64)
	for _, p := range s.pairs {
		w := make([]float64, p.layer.FanOut*p.layer.FanIn)
		if !s.scratch {
			base, err := values(s.store, p.layer.Weight)
			if err != nil {
				t.Fatal(err)
			}
			for i, value := range base {
				w[i] = float64(value)
			}
		}
		f, err := pairValues(s.store, p, "/adapter")
		if err != nil {
			t.Fatal(err)
		}
		addDense(w, f.a, f.b, p.layer.FanOut, p.layer.FanIn, p.scale)
		out[p.layer.Name] = w
	}
	return out
}

// addDense adds scale·a·bᵀ by the definition.
func addDense(w []float64, a, b []float32, m, n int, scale float64) {
	r := len(a) / m
	for i := range m {
		for j := range n {
			for k := range r {
				w[i*n+j] += scale * float64(a[i*r+k]) * float64(b[j*r+k])
			}
		}
	}
}

// distance returns ‖got - want‖_F / ‖want‖_F; NaN is infinitely far.
func distance[G, W float32 | float64](got []G, want []W) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var difference, size float64
	for i := range got {
		d := float64(got[i]) - float64(want[i])
		difference += d * d
		size += float64(want[i]) * float64(want[i])
	}
	if d := math.Sqrt(difference / size); d == d {
		return d
	}
	if difference == 0 {
		return 0
	}
	return math.Inf(1)
}

func closeTo[G, W float32 | float64](t *testing.T, what string, got []G, want []W, tol float64) {
	t.Helper()
	if d := distance(got, want); !(d <= tol) {
		t.Errorf("%s: relative error %.3g, want at most %.3g", what, d, tol)
	}
}

func newTestSet(t *testing.T, layers []param.Layer, cfg Config, seed uint64) (*Set, map[string][]float32) {
	t.Helper()
	store := testStore(layers, seed)
	before := weightsOf(t, store, layers)
	s, err := New(store, layers, cfg, Options{Gradients: randomGradients(layers)})
	if err != nil {
		t.Fatal(err)
	}
	return s, before
}

func configOf(init string) Config { return Config{Rank: 4, Alpha: 12, Init: init, Seed: 3} }

// startTol: the base is rounded once to float32 after the product is subtracted, and the factors' product is added again.
const startTol = 2 * eps32

// TestModelUnchangedAtStart holds for every initialisation that W + s·A Bᵀ is the original weight.
func TestModelUnchangedAtStart(t *testing.T) {
	layers := testLayers()
	for _, init := range Inits() {
		for _, rslora := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/rslora=%v", init, rslora), func(t *testing.T) {
				cfg := configOf(init)
				cfg.RSLoRA = rslora
				s, before := newTestSet(t, layers, cfg, 1)
				now := effective(t, s)
				for _, layer := range layers {
					closeTo(t, layer.Name, now[layer.Name], before[layer.Name], startTol)
					moved := distance(weightsOf(t, s.store, []param.Layer{layer})[layer.Name], before[layer.Name])
					if (init == InitLoRA) != (moved == 0) {
						t.Errorf("%s: the frozen weight moved by %g", layer.Name, moved)
					}
					if s.store.GetVariable(layer.Weight).Trainable {
						t.Errorf("%s: the frozen weight is trainable", layer.Name)
					}
				}
			})
		}
	}
}

// TestLinear compares the graph's product with x·(W + s·A Bᵀ)ᵀ in float64, for adapted and other layers.
func TestLinear(t *testing.T) {
	const tol = 8 * eps32 // two float32 products of at most 40 terms and a sum
	b := check.Backend(t)
	for _, init := range Inits() {
		cfg := configOf(init)
		cfg.Targets = []string{"q_proj", "mlp.down_proj", "k_proj"}
		layers := testLayers()
		s, before := newTestSet(t, layers, cfg, 2)
		train(t, s, 0.1, 5)
		weights := effective(t, s)
		for _, layer := range layers[:7] {
			want, adapted := weights[layer.Name]
			if !adapted {
				for _, value := range before[layer.Name] {
					want = append(want, float64(value))
				}
			}
			x := randomValues(2*3*layer.FanIn, rand.New(rand.NewPCG(4, 4)))
			got, err := mlmodel.CallOnce(b, s.store, func(_ *mlmodel.Scope, x *Node) *Node { return s.Linear(s.store)(x, layer) },
				tensors.FromFlatDataAndDimensions(x, 2, 3, layer.FanIn))
			if err != nil {
				t.Fatal(err)
			}
			if dims := got.Shape().Dimensions; len(dims) != 3 || dims[2] != layer.FanOut {
				t.Fatalf("%s: shape %v", layer.Name, dims)
			}
			closeTo(t, init+" "+layer.Name, tensors.MustCopyFlatData[float32](got), denseRows(x, want, layer), tol)
		}
	}
}

// denseRows returns x·Wᵀ in float64.
func denseRows(x []float32, w []float64, layer param.Layer) []float64 {
	var out []float64
	for row := 0; row < len(x); row += layer.FanIn {
		for i := range layer.FanOut {
			sum := 0.0
			for j := range layer.FanIn {
				sum += float64(x[row+j]) * w[i*layer.FanIn+j]
			}
			out = append(out, sum)
		}
	}
	return out
}

// TestNoDenseProduct holds that neither the forward nor the backward graph of an adapted layer that is used has a
// [fan-out, fan-in] array besides the frozen weight itself; the naive W + s·A Bᵀ must fail the same count.
func TestNoDenseProduct(t *testing.T) {
	b := check.Backend(t)
	layers := testLayers()[4:5]
	s, _ := newTestSet(t, layers, configOf(InitBalanced), 1)
	naive := func(x *Node, layer param.Layer) *Node {
		a := s.store.GetVariable(factorPath("/adapter", layer.Name, param.SideA)).NodeValue(x)
		bb := s.store.GetVariable(factorPath("/adapter", layer.Name, param.SideB)).NodeValue(x)
		w := s.store.GetVariable(layer.Weight).NodeValue(x)
		return vjp.Times(x, Add(w, vjp.Times(a, bb, 1)), 1)
	}
	count := func(linear param.Linear) (dense int) {
		_, err := mlmodel.CallOnceN(b, s.store, func(_ *mlmodel.Scope, x *Node) []*Node {
			loss := ReduceAllSum(Square(linear(x, layers[0])))
			gradients := s.store.RootScope().BuildTrainableVariablesGradientsGraph(loss)
			dense = denseNodes(gradients, layers[0])
			return gradients
		}, tensors.FromFlatDataAndDimensions(make([]float32, 3*24), 3, 24))
		if err != nil {
			t.Fatal(err)
		}
		return dense
	}
	if dense := count(s.Linear(s.store)); dense != 0 {
		t.Errorf("%d dense arrays are computed", dense)
	}
	if dense := count(naive); dense == 0 {
		t.Error("the count does not see the naive product's dense arrays")
	}
}

// denseNodes counts the computed nodes of the layer's shape, or its transpose, that the outputs depend on.
func denseNodes(outputs []*Node, layer param.Layer) int {
	seen := make(map[*Node]bool)
	count := 0
	var visit func(n *Node)
	visit = func(n *Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		d := n.Shape().Dimensions
		if n.Type() != NodeTypeParameter && len(d) == 2 && (d[0] == layer.FanOut && d[1] == layer.FanIn || d[1] == layer.FanOut && d[0] == layer.FanIn) {
			count++
		}
		for _, input := range n.Inputs() {
			visit(input)
		}
	}
	for _, n := range outputs {
		visit(n)
	}
	return count
}

// TestStartShapes checks the factors of each start against the table of the initialisations.
func TestStartShapes(t *testing.T) {
	layers := testLayers()
	for _, alpha := range []float64{1, 64} {
		for _, init := range []string{InitBalanced, InitGradient, InitPiSSA} {
			cfg := configOf(init)
			cfg.Alpha = alpha
			s, before := newTestSet(t, layers, cfg, 1)
			norms, err := s.Norms()
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range s.pairs {
				m, n := p.layer.FanOut, p.layer.FanIn
				want := math.Sqrt(float64(m) / float64(n))
				if init == InitPiSSA {
					want = singularValues(before[p.layer.Name], m, n)[0]
				}
				// The product does not depend on alpha, and both factors have the same norm.
				if got := p.scale * norms[i].A * norms[i].B; math.Abs(got/want-1) > 1e-3 {
					t.Errorf("%s %s alpha %g: s‖A0‖‖B0‖ = %g, want %g", init, p.layer.Name, alpha, got, want)
				}
				if math.Abs(norms[i].Balance-1) > 1e-4 {
					t.Errorf("%s %s: balance %g", init, p.layer.Name, norms[i].Balance)
				}
				if norms[i].Delta != 0 {
					t.Errorf("%s %s: ‖ΔW‖ = %g at the start", init, p.layer.Name, norms[i].Delta)
				}
			}
		}
	}
	s, _ := newTestSet(t, layers, configOf(InitLoRA), 1)
	norms, err := s.Norms()
	if err != nil || norms[0].B != 0 || !(norms[0].A > 0) || !math.IsInf(norms[0].Balance, 1) || norms[0].Delta != 0 {
		t.Errorf("lora: %+v %v", norms[0], err)
	}
}

func singularValues(w []float32, m, n int) []float64 {
	var svd mat.SVD
	if !svd.Factorize(dense(widen(w, m, n)), mat.SVDNone) {
		panic("svd")
	}
	return svd.Values(nil)
}

// TestGradientStart holds that the factors span the gradient's leading singular directions: the gradient's projection on
// them keeps the norm of its best rank-r approximation.
func TestGradientStart(t *testing.T) {
	layers := testLayers()[4:5]
	s, _ := newTestSet(t, layers, configOf(InitGradient), 1)
	p, gradient := s.pairs[0], randomGradients(layers)[layers[0].Name]
	f, err := pairValues(s.store, p, "/adapter0")
	if err != nil {
		t.Fatal(err)
	}
	m, n := p.layer.FanOut, p.layer.FanIn
	qa, _ := thinQR(widen(f.a, m, p.rank))
	qb, _ := thinQR(widen(f.b, n, p.rank))
	projected := product(product(qa, true, widen(gradient, m, n), false), false, qb, false)
	got, want := 0.0, 0.0
	for _, value := range projected.Data {
		got += value * value
	}
	for _, sigma := range singularValues(gradient, m, n)[:p.rank] {
		want += sigma * sigma
	}
	if math.Abs(got/want-1) > 1e-3 {
		t.Errorf("captured %g of the gradient's %g", got, want)
	}
}

// TestNorms compares ‖ΔW‖ with the SVD of the dense difference.
func TestNorms(t *testing.T) {
	const tol = 1e-4 // the dense difference carries the base's float32 rounding
	layers := testLayers()
	for _, init := range Inits() {
		s, before := newTestSet(t, layers, configOf(init), 1)
		train(t, s, 0.1, 8)
		norms, err := s.Norms()
		if err != nil {
			t.Fatal(err)
		}
		now := effective(t, s)
		for i, layer := range layers {
			change := make([]float32, len(before[layer.Name]))
			for j, value := range now[layer.Name] {
				change[j] = float32(value - float64(before[layer.Name][j]))
			}
			want := singularValues(change, layer.FanOut, layer.FanIn)[0]
			if math.Abs(norms[i].Delta/want-1) > tol || norms[i].Layer != layer.Name {
				t.Errorf("%s %s: ‖ΔW‖ = %g, want %g", init, layer.Name, norms[i].Delta, want)
			}
			if rms := norms[i].RMS(); math.Abs(rms-norms[i].Delta*math.Sqrt(float64(layer.FanIn)/float64(layer.FanOut))) > 1e-12 {
				t.Errorf("RMS %g", rms)
			}
		}
	}
}

// TestMerge holds that the merged weights are W + s·A Bᵀ and that nothing of the set is left.
func TestMerge(t *testing.T) {
	layers := testLayers()
	for _, init := range Inits() {
		s, _ := newTestSet(t, layers, configOf(init), 1)
		train(t, s, 0.1, 8)
		want := effective(t, s)
		if err := s.Merge(); err != nil {
			t.Fatal(err)
		}
		got := weightsOf(t, s.store, layers)
		for _, layer := range layers {
			closeTo(t, init+" "+layer.Name, got[layer.Name], want[layer.Name], eps32)
		}
		if count := s.store.NumVariables(); count != len(layers) {
			t.Errorf("%s: %d variables are left, want %d", init, count, len(layers))
		}
		if err := s.Merge(); err == nil {
			t.Error("merged twice")
		}
		if _, err := s.Export(); err == nil {
			t.Error("exported after merging")
		}
	}
}

// TestResume holds that Attach with the checkpoint's variables and AdjustBase give the same bits as the run had.
func TestResume(t *testing.T) {
	layers := testLayers()
	for _, init := range Inits() {
		cfg := configOf(init)
		s, _ := newTestSet(t, layers, cfg, 1)
		train(t, s, 0.1, 8)
		store := testStore(layers, 1)
		resumed, err := Attach(store, layers, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if init != InitLoRA {
			if _, err := resumed.Norms(); err == nil {
				t.Error("usable before AdjustBase")
			}
		}
		paths := s.Variables()
		for _, path := range paths {
			data, err := values(s.store, path)
			if err != nil {
				t.Fatal(err)
			}
			v := store.GetVariable(path)
			if v == nil {
				t.Fatalf("Attach made no %s", path)
			}
			if err := v.SetValue(tensors.FromFlatDataAndDimensions(data, v.Shape().Dimensions...)); err != nil {
				t.Fatal(err)
			}
		}
		if err := resumed.AdjustBase(); err != nil {
			t.Fatal(err)
		}
		if err := resumed.AdjustBase(); err != nil { // once only
			t.Fatal(err)
		}
		for v := range s.store.IterVariables() {
			a, _ := values(s.store, v.Path())
			b, err := values(store, v.Path())
			if err != nil || len(a) != len(b) {
				t.Fatal(v.Path(), err)
			}
			for i := range a {
				if a[i] != b[i] {
					t.Fatalf("%s: %s differs at %d", init, v.Path(), i)
				}
			}
			if twin := store.GetVariable(v.Path()); twin.Trainable != v.Trainable {
				t.Errorf("%s: trainable %v", v.Path(), twin.Trainable)
			}
		}
	}
	if _, err := Attach(mustNew(t, layers), layers, Config{Rank: 2, Alpha: 1, Init: InitLoRA}); err == nil || !strings.Contains(err.Error(), "another rank") {
		t.Errorf("another rank: %v", err)
	}
}

func mustNew(t *testing.T, layers []param.Layer) *mlmodel.Store {
	s, _ := newTestSet(t, layers, configOf(InitLoRA), 1)
	return s.store
}

// TestSeeds holds that the start depends on the seed and the layer, and on nothing else.
func TestSeeds(t *testing.T) {
	layers := testLayers()
	first := func(seed int64, targets ...string) []float32 {
		cfg := configOf(InitBalanced)
		cfg.Seed, cfg.Targets = seed, targets
		s, _ := newTestSet(t, layers, cfg, 1)
		f, err := pairValues(s.store, s.pairs[s.index["model.layers.1.mlp.up_proj"]], "/adapter")
		if err != nil {
			t.Fatal(err)
		}
		return f.a
	}
	base := first(0)
	if distance(first(0, "up_proj"), base) != 0 {
		t.Error("the start changes with the other targets")
	}
	if distance(first(1), base) < 0.1 {
		t.Error("the seed does nothing")
	}
}

func TestTags(t *testing.T) {
	layers := testLayers()
	s, _ := newTestSet(t, layers, configOf(InitPiSSA), 1)
	for _, layer := range layers {
		for _, side := range []param.Side{param.SideA, param.SideB} {
			v := s.store.GetVariable(factorPath("/adapter", layer.Name, side))
			spec, found, err := param.Lookup(s.store, v)
			if err != nil || !found || spec.Role != param.Pair || spec.Side != side || spec.S() != 3 || spec.Layer != layer.Name || !v.Trainable {
				t.Fatalf("%s: %+v %v %v", v.Path(), spec, found, err)
			}
			if v := s.store.GetVariable(factorPath("/adapter0", layer.Name, side)); v == nil || v.Trainable {
				t.Fatalf("the start of %s is missing or trainable", layer.Name)
			}
		}
	}
	if got := s.Parameters(); got != 2*4*(48+36+36+48+64+64+64) {
		t.Errorf("%d parameters", got)
	}
}

// TestNewErrors lists what New refuses; each error is one line that names the cause.
func TestNewErrors(t *testing.T) {
	layers := testLayers()
	nan := func(store *mlmodel.Store) {
		data := make([]float32, 24*24)
		data[25] = float32(math.NaN())
		_ = store.GetVariable(layers[0].Weight).SetValue(tensors.FromFlatDataAndDimensions(data, 24, 24))
	}
	cases := []struct {
		name, want string
		change     func(*Config)
		spoil      func(*mlmodel.Store)
		options    Options
	}{
		{name: "rank too large", want: "rank 13 is larger than layer model.layers.0.self_attn.k_proj (12 x 24), ", change: func(c *Config) { c.Rank = 13 }},
		{name: "rank zero", want: "rank 0", change: func(c *Config) { c.Rank = 0 }},
		{name: "alpha", want: "alpha 0", change: func(c *Config) { c.Alpha = 0 }},
		{name: "alpha NaN", want: "alpha NaN", change: func(c *Config) { c.Alpha = math.NaN() }},
		{name: "init", want: `unknown init "pisa"; known: balanced, pissa, gradient, lora (did you mean "pissa"?)`, change: func(c *Config) { c.Init = "pisa" }},
		{name: "init scale", want: "init scale -1", change: func(c *Config) { c.InitScale = -1 }},
		{name: "target", want: `target "q_prj" matches nothing; nearest: q_proj`, change: func(c *Config) { c.Targets = []string{"q_prj"} }},
		{name: "no gradients", want: "needs the gradients", change: func(c *Config) { c.Init = InitGradient }},
		{name: "short gradient", want: "layer model.layers.0.self_attn.q_proj: the gradient has 0 values, want 24 x 24", change: func(c *Config) { c.Init = InitGradient }, options: Options{Gradients: map[string][]float32{}}},
		{name: "zero gradient", want: "layer model.layers.0.self_attn.q_proj: the gradient is all zeros", change: func(c *Config) { c.Init, c.Targets = InitGradient, []string{"/.*0.*q_proj/"} }, options: Options{Gradients: map[string][]float32{layers[0].Name: make([]float32, 24*24)}}},
		{name: "NaN weight, pissa", want: "layer model.layers.0.self_attn.q_proj: the weight is NaN at [1, 1]", change: func(c *Config) { c.Init = InitPiSSA }, spoil: nan},
		{name: "NaN weight, balanced", want: "layer model.layers.0.self_attn.q_proj: the weight is NaN at [1, 1]", spoil: nan},
		{name: "missing weight", want: "layer model.layers.0.self_attn.q_proj: the store has no weight", spoil: func(s *mlmodel.Store) { _ = s.DeleteVariable(layers[0].Weight) }},
		{name: "misshapen weight", want: "has shape [1 2], want [24 24]", spoil: func(s *mlmodel.Store) {
			_ = s.GetVariable(layers[0].Weight).SetValue(tensors.FromFlatDataAndDimensions(make([]float32, 2), 1, 2))
		}},
		{name: "twice", want: "already has an adapter", spoil: func(s *mlmodel.Store) {
			if _, err := New(s, layers, configOf(InitLoRA), Options{}); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := configOf(InitBalanced)
			if c.change != nil {
				c.change(&cfg)
			}
			store := testStore(layers, 1)
			if c.spoil != nil {
				c.spoil(store)
			}
			_, err := New(store, layers, cfg, c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

// TestNewPairs checks the low-rank weights from scratch: norms, equal products under rescaling, merging, resuming.
func TestNewPairs(t *testing.T) {
	layers := testLayers()
	make1 := func(c float64) *Set {
		s, err := NewPairs(testStore(layers, 1), layers, PairsConfig{Rank: 16, Seed: 5, Rescale: c})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, rescaled := make1(0), make1(27)
	norms, err := s.Norms()
	if err != nil {
		t.Fatal(err)
	}
	want, other := effective(t, s), effective(t, rescaled)
	for i, p := range s.pairs {
		if p.rank != min(16, p.layer.FanOut, p.layer.FanIn) {
			t.Errorf("%s: rank %d", p.layer.Name, p.rank)
		}
		fourth := math.Pow(float64(p.layer.FanOut)/float64(p.layer.FanIn), 0.25)
		for _, norm := range []float64{norms[i].A, norms[i].B, math.Sqrt(norms[i].Delta)} {
			if math.Abs(norm/fourth-1) > 1e-5 {
				t.Errorf("%s: %+v, want factors of norm %g", p.layer.Name, norms[i], fourth)
			}
		}
		closeTo(t, p.layer.Name, other[p.layer.Name], want[p.layer.Name], 4*eps32)
		if s.store.GetVariable(p.layer.Weight) != nil {
			t.Errorf("%s: the dense weight is still there", p.layer.Name)
		}
	}
	if scaled, err := rescaled.Norms(); err != nil || math.Abs(scaled[0].Balance/(27*27)-1) > 1e-4 {
		t.Errorf("rescaled: %+v %v", scaled[0], err)
	}
	if _, err := s.Export(); err == nil || !strings.Contains(err.Error(), "no base") {
		t.Errorf("export: %v", err)
	}
	resumed, err := AttachPairs(testStore(layers, 1), layers, PairsConfig{Rank: 16})
	if err != nil || strings.Join(resumed.Variables(), " ") != strings.Join(s.Variables(), " ") {
		t.Errorf("attach: %v", err)
	}
	layer := layers[4]
	x := randomValues(3*layer.FanIn, rand.New(rand.NewPCG(4, 4)))
	got, err := mlmodel.CallOnce(check.Backend(t), s.store, func(_ *mlmodel.Scope, x *Node) *Node { return s.Linear(s.store)(x, layer) }, tensors.FromFlatDataAndDimensions(x, 3, layer.FanIn))
	if err != nil {
		t.Fatal(err)
	}
	closeTo(t, "linear", tensors.MustCopyFlatData[float32](got), denseRows(x, want[layer.Name], layer), 8*eps32)
	if err := s.Merge(); err != nil {
		t.Fatal(err)
	}
	merged := weightsOf(t, s.store, layers)
	for _, layer := range layers {
		closeTo(t, "merged "+layer.Name, merged[layer.Name], want[layer.Name], eps32)
	}
	for _, bad := range []PairsConfig{{Rank: 0}, {Rank: 1, Rescale: -1}, {Rank: 1, InitScale: math.Inf(1)}} {
		if _, err := NewPairs(testStore(layers, 1), layers, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestScale(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   float64
	}{{Config{Rank: 16, Alpha: 32}, 2}, {Config{Rank: 16, Alpha: 32, RSLoRA: true}, 8}, {Config{Rank: 1, Alpha: 0.5}, 0.5}} {
		if got := c.config.Scale(); got != c.want {
			t.Errorf("%+v: s = %g, want %g", c.config, got, c.want)
		}
	}
}
