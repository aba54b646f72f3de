package model

import (
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/param"
)

// lossBench is a forward and backward pass to time.
type lossBench struct {
	name         string
	cfg          Config
	rows, length int
	trains       func(p Tensor) bool // which gradients are taken
}

// smolLM2 is the shape of SmolLM2-135M.
func smolLM2() Config {
	c, err := Base("llama")
	if err != nil {
		panic(err)
	}
	c.VocabSize, c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads = 49152, 576, 1536, 30, 9, 3
	c.MaxPositions, c.TiedEmbeddings, c.Rope.Base = 8192, true, 100000
	return c
}

// store fills a store with weights of about the size that training keeps, without Init's orthonormalisation.
func (l lossBench) store(d *Decoder) *mlmodel.Store {
	store := mlmodel.NewStore()
	for i, p := range d.Parameters() {
		a := random(uint64(i), 0.04, p.Shape...)
		if p.Role == param.Vector {
			for i := range a.values {
				a.values[i] = 1
			}
		}
		store.VariableWithValue(p.Path(), a.tensor())
	}
	return store
}

func (l lossBench) run(b *testing.B) {
	d, err := New(l.cfg)
	if err != nil {
		b.Fatal(err)
	}
	store, x := l.store(d), randomBatch(1, l.cfg.VocabSize, l.rows, l.length)
	exec := mlmodel.MustNewExec(check.Backend(b), store, func(_ *mlmodel.Scope, in []*Node) []*Node {
		loss, _ := d.Loss(store, x.inputs(in), Options{})
		var trained []*Node
		for _, p := range d.Parameters() {
			if l.trains(p) {
				trained = append(trained, store.GetVariable(p.Path()).NodeValue(in[0].Graph()))
			}
		}
		return append([]*Node{loss}, Gradient(loss, trained...)...)
	})
	defer exec.Finalize()
	step := func() {
		for i, out := range exec.MustCall(x.args()...) {
			if i == 0 && !finite(tensors.MustCopyFlatData[float32](out)) {
				b.Fatal("the loss is not finite")
			}
			out.MustFinalizeAll()
		}
	}
	step() // compiles
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(l.rows*l.length*b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkLoss times loss and gradients: all of the published experiments' lab model, and, with -long, those of SmolLM2-135M
// with frozen weights, to the first block's norm: what a run with an adapter computes besides the adapter.
func BenchmarkLoss(b *testing.B) {
	for _, l := range []lossBench{
		{"lab/d128/32x64", Lab(256, 128, 2, 4, 64), 32, 64, func(Tensor) bool { return true }},
		{"smollm2-135m/frozen/4x256", smolLM2(), 4, 256, func(p Tensor) bool { return p.Name == "model.layers.0.input_layernorm.weight" }},
	} {
		b.Run(l.name, func(b *testing.B) {
			if l.cfg.Layers > 2 {
				check.Long(b)
			}
			l.run(b)
		})
	}
}

// BenchmarkGenerate times tokens of SmolLM2-135M's shape after a prompt of 256 (with -long).
func BenchmarkGenerate(b *testing.B) {
	check.Long(b)
	d, err := New(smolLM2())
	if err != nil {
		b.Fatal(err)
	}
	g, err := NewGenerator(check.Backend(b), lossBench{}.store(d), d, Options{}, 1024)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	text := prompt(1, d.cfg.VocabSize, 256)
	if _, err := g.read(b.Context(), text); err != nil { // compiles the graph for prompts
		b.Fatal(err)
	}
	at := len(text)
	step := func() {
		if _, err := g.extend([]int{1}, 1, at); err != nil {
			b.Fatal(err)
		}
		at = min(at+1, 1023)
	}
	step() // compiles the graph for one token
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}
