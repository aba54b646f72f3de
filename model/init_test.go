package model

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

// initialized returns a decoder and a store that Init filled.
func initialized(t *testing.T, cfg Config, seed int64) (*Decoder, *mlmodel.Store) {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	store := mlmodel.NewStore()
	if err := d.Init(store, seed); err != nil {
		t.Fatal(err)
	}
	return d, store
}

func values(store *mlmodel.Store, p Tensor) []float32 {
	return tensors.MustCopyFlatData[float32](store.GetVariable(p.Path()).MustValue())
}

// gramError returns how far the Gram matrix of the rows (or of the columns of a tall matrix) is from square times the
// identity: the largest entry of the difference, relative to square.
func gramError(x []float64, m, n int, square float64) (worst float64) {
	at := func(vector, i int) float64 { return x[vector*n+i] }
	if m > n {
		at = func(vector, i int) float64 { return x[i*n+vector] }
	}
	for a := range min(m, n) {
		for b := range a + 1 {
			product := 0.0
			for i := range max(m, n) {
				product += at(a, i) * at(b, i)
			}
			if a == b {
				product -= square
			}
			worst = max(worst, math.Abs(product)/square)
		}
	}
	return worst
}

// TestInit: linear weights are √(m/n) times a matrix with orthonormal columns or rows, tall, wide and square; embeddings and
// heads have mean 0 and standard deviation 0.02; gains are 1 and biases 0.
func TestInit(t *testing.T) {
	// orthonormalTol: entries are rounded to float32 once, and a product of at most 64 of them sums to 1.
	const orthonormalTol = 4 * eps32
	// A mean of n draws is off by more than 4.5 deviations once in 150,000, and so is their standard deviation.
	const sigmas = 4.5
	tall, broad, squares := 0, 0, 0
	for _, architecture := range Architectures {
		d, store := initialized(t, small(architecture, func(c *Config) { c.VocabSize, c.HeadDim = 500, 4 }), 3)
		for _, p := range d.Parameters() {
			x := wide(values(store, p))
			switch p.Role {
			case param.Hidden:
				m, n := p.Shape[0], p.Shape[1]
				square := float64(m) / float64(n)
				if got := gramError(x, m, n, square); !(got < orthonormalTol) {
					t.Errorf("%s %s: Gram matrix is off by %g", architecture, p.Name, got)
				}
				if got := gramError(x, m, n, square*1.00001); got < orthonormalTol {
					t.Errorf("%s %s: another norm passes too", architecture, p.Name)
				}
				switch {
				case m > n:
					tall++
				case m < n:
					broad++
				default:
					squares++
				}
			case param.Embedding, param.Head:
				n := float64(len(x))
				mean, square := 0.0, 0.0
				for _, v := range x {
					mean, square = mean+v/n, square+v*v/n
				}
				std := math.Sqrt(square)
				if math.Abs(mean) > sigmas*0.02/math.Sqrt(n) || math.Abs(std-0.02) > sigmas*0.02/math.Sqrt(2*n) {
					t.Errorf("%s %s: mean %g, standard deviation %g of %g values", architecture, p.Name, mean, std, n)
				}
			default:
				want := 0.0
				if strings.HasSuffix(p.Name, ".weight") {
					want = 1
				}
				if slices.Min(x) != want || slices.Max(x) != want {
					t.Errorf("%s %s: from %g to %g, want %g", architecture, p.Name, slices.Min(x), slices.Max(x), want)
				}
			}
		}
	}
	if tall == 0 || broad == 0 || squares == 0 {
		t.Errorf("%d tall, %d wide and %d square matrices: one kind was not tested", tall, broad, squares)
	}
}

// TestInitSeed: the same seed gives the same bits, another seed other values, and a tensor's values depend on neither the
// number of layers nor on other tensors; no two random tensors are equal.
func TestInitSeed(t *testing.T) {
	d, store := initialized(t, small("qwen2", nil), 5)
	_, again := initialized(t, small("qwen2", nil), 5)
	_, other := initialized(t, small("qwen2", nil), -5)
	_, deeper := initialized(t, small("qwen2", func(c *Config) { c.Layers, c.VocabSize, c.QKVBias = 4, 29, false }), 5)
	seen := map[float32]string{}
	for _, p := range d.Parameters() {
		got := values(store, p)
		same(t, p.Name, values(again, p), got)
		if p.Role == param.Hidden {
			same(t, p.Name+" of a deeper model", values(deeper, p), got)
		}
		if p.Role == param.Vector {
			continue
		}
		if slices.Equal(values(other, p), got) {
			t.Errorf("%s is the same for another seed", p.Name)
		}
		if before, found := seen[got[0]]; found {
			t.Errorf("%s begins like %s", p.Name, before)
		}
		seen[got[0]] = p.Name
	}
}

// TestInitRefusesOccupied: a store that has one of the variables is left as it was.
func TestInitRefusesOccupied(t *testing.T) {
	d, err := New(small("llama", nil))
	if err != nil {
		t.Fatal(err)
	}
	store := mlmodel.NewStore()
	store.VariableWithValue("/model/norm/weight", tensors.FromScalarAndDimensions(float32(2), 16))
	if err := d.Init(store, 1); err == nil || !strings.Contains(err.Error(), "already has a variable /model/norm/weight") {
		t.Errorf("got %v", err)
	}
	for _, p := range d.Parameters() {
		if v := store.GetVariable(p.Path()); v != nil && p.Name != "model.norm.weight" {
			t.Errorf("%s was created", p.Name)
		}
	}
}

// wantSpec is what the optimizers should learn of a tensor, from its name and shape.
func wantSpec(p Tensor) param.Spec {
	last := p.Name[strings.LastIndex(p.Name, ".")+1:]
	switch {
	case strings.Contains(p.Name, "embed") || strings.Contains(p.Name, ".wte.") || strings.Contains(p.Name, ".wpe."):
		return param.Spec{Role: param.Embedding}
	case p.Name == "lm_head.weight":
		return param.Spec{Role: param.Head}
	case strings.Contains(p.Name, "norm") || strings.Contains(p.Name, ".ln_") || last == "bias":
		return param.Spec{Role: param.Vector}
	}
	return param.Spec{Role: param.Hidden, FanOut: p.Shape[0], FanIn: p.Shape[1]}
}

// TestSetTrainable: every variable is described to the optimizers and trains, or is frozen.
func TestSetTrainable(t *testing.T) {
	for _, c := range decoderCases() {
		n := newNet(t, c.cfg)
		for _, on := range []bool{true, false, true} {
			if err := n.SetTrainable(n.store, on); err != nil {
				t.Fatal(err)
			}
			for _, p := range n.Parameters() {
				v := n.store.GetVariable(p.Path())
				spec, found, err := param.Lookup(n.store, v)
				if v.Trainable != on || !found || err != nil || spec != wantSpec(p) {
					t.Errorf("%s %s: trainable %v, want %v; described as %+v (%v, %v), want %+v",
						c.name, p.Name, v.Trainable, on, spec, found, err, wantSpec(p))
				}
			}
		}
	}
}

// TestSetTrainableRefuses: a store whose variables are not the decoder's.
func TestSetTrainableRefuses(t *testing.T) {
	for _, on := range []bool{true, false} {
		d, store := initialized(t, small("llama", nil), 1)
		if err := d.SetTrainable(mlmodel.NewStore(), on); err == nil || !strings.Contains(err.Error(), "no variable /model/embed_tokens/weight") {
			t.Errorf("an empty store, %v: %v", on, err)
		}
		for name, change := range map[string]func(c *Config){
			"variable /model/embed_tokens/weight has shape [23 16], want [24 16]": func(c *Config) { c.VocabSize++ },
			"/model/layers/0/mlp/gate_proj/weight":                                func(c *Config) { c.Intermediate++ },
		} {
			other, err := New(small("llama", change))
			if err != nil {
				t.Fatal(err)
			}
			if err := other.SetTrainable(store, on); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s has another shape, %v: %v", name, on, err)
			}
		}
	}
}
