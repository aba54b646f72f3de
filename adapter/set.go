package adapter

import (
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

// Options are the inputs of New that are not configuration.
type Options struct {
	// Gradients holds, for Init "gradient", the full gradient ∇_W f of each target by layer name, [fan-out, fan-in]
	// row-major. The run computes them from its first batches, before New, with the base weights trainable.
	Gradients map[string][]float32
}

// pair is one adapted layer.
type pair struct {
	layer param.Layer
	rank  int
	scale float64
	// moved is set where the start's product was not zero: its factors are kept under /adapter0.
	moved bool
}

// Set is the low-rank pairs of a model and where they are in its store.
type Set struct {
	store *mlmodel.Store
	pairs []pair
	index map[string]int // layer name -> pair
	all   []string       // names of all the model's linear layers, adapted or not
	// scratch is set for weights from scratch: W = A Bᵀ with no base.
	scratch bool
	// pending is set between Attach and AdjustBase, merged after Merge.
	pending, merged bool
}

// New selects cfg.Targets among all linear layers of the model and puts a pair on each: it creates and tags the factors
// (trainable), freezes the layers' weights and, where the start's product is not zero, keeps A0, B0 under /adapter0 and
// replaces the weight in the store by W_pre - s·A0 B0ᵀ, so that the model starts unchanged to float32 rounding.
//
// Errors name the layers: no match (Select), a rank that does not fit, a weight that is missing, misshapen or not
// finite, a missing gradient, or pairs already present. After an error the store may hold a part of the variables.
// Memory: (fan-out + fan-in)·rank float32 a layer, twice that for a start that is not zero. Cost: for PiSSA and
// Gradient a randomised SVD of every weight, run on all cores.
func New(store *mlmodel.Store, layers []param.Layer, cfg Config, opts Options) (*Set, error) {
	if cfg.Init == InitGradient && opts.Gradients == nil {
		return nil, fmt.Errorf("init %q needs the gradients of the first batches", InitGradient)
	}
	s, err := prepare(store, layers, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.checkUnused(); err != nil {
		return nil, err
	}
	starts, err := s.starts(cfg, opts)
	if err != nil {
		return nil, err
	}
	for i, p := range s.pairs {
		if err := s.createFactors(p, starts[i], starts[i]); err != nil {
			return nil, err
		}
	}
	if s.pending {
		return s, s.AdjustBase()
	}
	return s, nil
}

// Attach is New for a run that continues: it creates the same variables holding zeros (keeping those that the store
// already has) for a checkpoint to restore, with the model's original weights in the store. Call AdjustBase once all of
// Variables have their values.
func Attach(store *mlmodel.Store, layers []param.Layer, cfg Config) (*Set, error) {
	s, err := prepare(store, layers, cfg)
	if err != nil {
		return nil, err
	}
	for _, p := range s.pairs {
		if err := s.createFactors(p, zeros(p), zeros(p)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// AdjustBase replaces every adapted weight W_pre in the store by W_pre - s·A0 B0ᵀ, once, as New does: the same bits for
// the same weights and factors. It does nothing for starts whose product was zero.
func (s *Set) AdjustBase() error {
	if !s.pending {
		return nil
	}
	s.pending = false
	return s.fold(s.store, "/adapter0", -1)
}

// prepare checks the configuration against the layers and the store.
func prepare(store *mlmodel.Store, layers []param.Layer, cfg Config) (*Set, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	chosen, err := Select(layers, cfg.Targets)
	if err != nil {
		return nil, err
	}
	if err := checkRank(chosen, cfg.Rank); err != nil {
		return nil, err
	}
	s := newSet(store, layers)
	s.pending = !cfg.startsAtZero()
	for _, layer := range chosen {
		if err := s.freeze(layer); err != nil {
			return nil, err
		}
		s.add(pair{layer: layer, rank: cfg.Rank, scale: cfg.Scale(), moved: s.pending})
	}
	return s, nil
}

func newSet(store *mlmodel.Store, layers []param.Layer) *Set {
	s := &Set{store: store, index: make(map[string]int)}
	for _, layer := range layers {
		s.all = append(s.all, layer.Name)
	}
	return s
}

func (s *Set) add(p pair) {
	s.index[p.layer.Name] = len(s.pairs)
	s.pairs = append(s.pairs, p)
}

// checkRank returns an error naming the layers that cannot have the rank, with their sizes.
func checkRank(layers []param.Layer, rank int) error {
	var bad []string
	for _, layer := range layers {
		if rank > min(layer.FanOut, layer.FanIn) {
			bad = append(bad, fmt.Sprintf("%s (%d x %d)", layer.Name, layer.FanOut, layer.FanIn))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("rank %d is larger than layer %s; lower the rank or choose other targets", rank, shortList(bad, 3))
}

// shortList joins the first count of the names and says how many there are besides.
func shortList(names []string, count int) string {
	if len(names) <= count {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:count], ", "), len(names)-count)
}

// freeze checks a layer's weight in the store and makes it not trainable.
func (s *Set) freeze(layer param.Layer) error {
	v := s.store.GetVariable(layer.Weight)
	if v == nil || !v.HasValue() {
		return fmt.Errorf("layer %s: the store has no weight %s", layer.Name, layer.Weight)
	}
	if dims := v.Shape().Dimensions; len(dims) != 2 || dims[0] != layer.FanOut || dims[1] != layer.FanIn {
		return fmt.Errorf("layer %s: weight %s has shape %v, want [%d %d]", layer.Name, layer.Weight, dims, layer.FanOut, layer.FanIn)
	}
	v.SetTrainable(false)
	return nil
}

// checkUnused returns an error when the store already holds pairs.
func (s *Set) checkUnused() error {
	for _, p := range s.pairs {
		if path := factorPath("/adapter", p.layer.Name, param.SideA); s.store.GetVariable(path) != nil {
			return fmt.Errorf("layer %s already has an adapter in the store; merge it first", p.layer.Name)
		}
	}
	return nil
}

// starts computes the initial factors of all layers, on all cores.
func (s *Set) starts(cfg Config, opts Options) ([]factors, error) {
	out := make([]factors, len(s.pairs))
	return out, eachLayer(len(s.pairs), func(i int) error {
		layer := s.pairs[i].layer
		var weight, gradient []float32
		var err error
		switch cfg.Init {
		case InitPiSSA:
			if weight, err = values(s.store, layer.Weight); err != nil {
				return err
			}
		case InitGradient:
			gradient = opts.Gradients[layer.Name]
			if len(gradient) != layer.FanOut*layer.FanIn {
				return fmt.Errorf("layer %s: the gradient has %d values, want %d x %d", layer.Name, len(gradient), layer.FanOut, layer.FanIn)
			}
		}
		if out[i], err = start(layer, cfg, weight, gradient); err != nil {
			return fmt.Errorf("layer %s: %w", layer.Name, err)
		}
		return nil
	})
}

func zeros(p pair) factors {
	return factors{a: make([]float32, p.layer.FanOut*p.rank), b: make([]float32, p.layer.FanIn*p.rank)}
}

// factorPath is where a factor is in the store; root is "/adapter", or "/adapter0" for the start's.
func factorPath(root, layer string, side param.Side) string {
	return root + param.Path(layer) + "/" + string(side)
}

// createFactors creates and tags the pair's variables, and the start's where it moved; variables that exist are kept.
func (s *Set) createFactors(p pair, now, start factors) error {
	if err := s.createSide(p, param.SideA, p.layer.FanOut, now.a, start.a); err != nil {
		return err
	}
	return s.createSide(p, param.SideB, p.layer.FanIn, now.b, start.b)
}

func (s *Set) createSide(p pair, side param.Side, rows int, now, start []float32) error {
	v, err := s.create(factorPath("/adapter", p.layer.Name, side), now, rows, p.rank)
	if err != nil {
		return err
	}
	v.SetTrainable(true)
	spec := param.Spec{Role: param.Pair, FanOut: p.layer.FanOut, FanIn: p.layer.FanIn, Layer: p.layer.Name, Side: side, Scale: p.scale}
	if err := param.Tag(s.store, v, spec); err != nil || !p.moved {
		return err
	}
	if v, err = s.create(factorPath("/adapter0", p.layer.Name, side), start, rows, p.rank); err == nil {
		v.SetTrainable(false)
	}
	return err
}

func (s *Set) create(path string, data []float32, rows, cols int) (*mlmodel.Variable, error) {
	if v := s.store.GetVariable(path); v != nil {
		if dims := v.Shape().Dimensions; len(dims) != 2 || dims[0] != rows || dims[1] != cols {
			return nil, fmt.Errorf("variable %s has shape %v, want [%d %d]: the checkpoint is of another rank or model", path, dims, rows, cols)
		}
		return v, nil
	}
	return s.store.VariableWithValue(path, tensors.FromFlatDataAndDimensions(append([]float32(nil), data...), rows, cols)), nil
}

// values returns a copy of a float32 variable.
func values(store *mlmodel.Store, path string) ([]float32, error) {
	v := store.GetVariable(path)
	if v == nil {
		return nil, fmt.Errorf("the store has no variable %s", path)
	}
	tensor, err := v.Value()
	if err != nil {
		return nil, fmt.Errorf("variable %s: %w", path, err)
	}
	out, err := tensors.CopyFlatData[float32](tensor)
	if err != nil {
		return nil, fmt.Errorf("variable %s: %w", path, err)
	}
	return out, nil
}

// pairValues returns the factors of a pair as they are in the store under root.
func pairValues(store *mlmodel.Store, p pair, root string) (f factors, err error) {
	if f.a, err = values(store, factorPath(root, p.layer.Name, param.SideA)); err != nil {
		return f, err
	}
	f.b, err = values(store, factorPath(root, p.layer.Name, param.SideB))
	return f, err
}

// fold adds sign·s·A Bᵀ of the factors under root to every adapted weight in the store, one layer a core at a time.
func (s *Set) fold(store *mlmodel.Store, root string, sign float64) error {
	return eachLayer(len(s.pairs), func(i int) error {
		p := s.pairs[i]
		f, err := pairValues(store, p, root)
		if err != nil {
			return err
		}
		weight, err := values(store, p.layer.Weight)
		if err != nil {
			return err
		}
		m, n := p.layer.FanOut, p.layer.FanIn
		if err := addProduct(weight, f.a, f.b, m, n, p.rank, sign*p.scale); err != nil {
			return fmt.Errorf("layer %s: %w", p.layer.Name, err)
		}
		return store.GetVariable(p.layer.Weight).SetValue(tensors.FromFlatDataAndDimensions(weight, m, n))
	})
}

// usable returns an error when the set cannot be read now.
func (s *Set) usable() error {
	switch {
	case s.merged:
		return fmt.Errorf("the adapter was merged into the weights")
	case s.pending:
		return fmt.Errorf("the adapter was attached but AdjustBase was not called")
	}
	return nil
}

// Layers returns the adapted layers in the model's order.
func (s *Set) Layers() []param.Layer {
	out := make([]param.Layer, len(s.pairs))
	for i, p := range s.pairs {
		out[i] = p.layer
	}
	return out
}

// Variables returns the paths of the variables that a checkpoint must hold to restore the set, in a fixed order: the
// factors and, where the start's product was not zero, the start's.
func (s *Set) Variables() []string {
	var out []string
	for _, p := range s.pairs {
		out = append(out, factorPath("/adapter", p.layer.Name, param.SideA), factorPath("/adapter", p.layer.Name, param.SideB))
		if p.moved {
			out = append(out, factorPath("/adapter0", p.layer.Name, param.SideA), factorPath("/adapter0", p.layer.Name, param.SideB))
		}
	}
	return out
}

// Parameters returns the number of trainable numbers, the sum of (fan-out + fan-in)·rank.
func (s *Set) Parameters() int64 {
	total := int64(0)
	for _, p := range s.pairs {
		total += int64(p.layer.FanOut+p.layer.FanIn) * int64(p.rank)
	}
	return total
}

// positive reports whether x is a positive finite number.
func positive(x float64) bool { return x > 0 && !math.IsInf(x, 0) }
