package adapter

import (
	"fmt"
	"math"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

// PairsConfig describes low-rank weights from scratch, W = A Bᵀ (the laboratory's setting M).
type PairsConfig struct {
	// Rank is lowered to min(fan-out, fan-in) on layers that are smaller.
	Rank int
	Seed int64
	// Rescale is c: the factors start at A·c and B/c, the same product. Zero means 1.
	Rescale float64
	// InitScale is the RMS→RMS norm of A Bᵀ at the start. Zero means 1.
	InitScale float64
	// Targets as in Config.
	Targets []string
}

func (c PairsConfig) rescale() float64 {
	if c.Rescale == 0 {
		return 1
	}
	return c.Rescale
}

func (c PairsConfig) initScale() float64 {
	if c.InitScale == 0 {
		return 1
	}
	return c.InitScale
}

func (c PairsConfig) check() error {
	switch {
	case c.Rank < 1:
		return fmt.Errorf("rank %d: want at least 1", c.Rank)
	case !positive(c.rescale()):
		return fmt.Errorf("rescale %g: want a positive number, or 0 for 1", c.Rescale)
	case !positive(c.initScale()):
		return fmt.Errorf("init scale %g: want a positive number, or 0 for 1", c.InitScale)
	}
	return nil
}

// NewPairs replaces the targets' weights by low-rank weights from scratch, W = A Bᵀ with no base and s = 1: A is
// sqrt(InitScale)·(m/n)^¼·Q1 and B the same of Q2, with Q1, Q2 the polar factors of Gaussian matrices, so that A Bᵀ has
// RMS→RMS norm InitScale. The dense weights are deleted from the store; Merge brings them back.
func NewPairs(store *mlmodel.Store, layers []param.Layer, cfg PairsConfig) (*Set, error) {
	return newPairs(store, layers, cfg, true)
}

// AttachPairs is Attach for NewPairs; the set is usable once its Variables are restored.
func AttachPairs(store *mlmodel.Store, layers []param.Layer, cfg PairsConfig) (*Set, error) {
	return newPairs(store, layers, cfg, false)
}

func newPairs(store *mlmodel.Store, layers []param.Layer, cfg PairsConfig, fresh bool) (*Set, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	chosen, err := Select(layers, cfg.Targets)
	if err != nil {
		return nil, err
	}
	s := newSet(store, layers)
	s.scratch = true
	for _, layer := range chosen {
		s.add(pair{layer: layer, rank: min(cfg.Rank, layer.FanOut, layer.FanIn), scale: 1})
	}
	if fresh {
		if err := s.checkUnused(); err != nil {
			return nil, err
		}
	}
	for _, p := range s.pairs {
		f := zeros(p)
		if fresh {
			rng := random(cfg.Seed, p.layer.Name)
			size := math.Sqrt(balancedNorm(p.layer, cfg.initScale()))
			f.a = scaled(orthonormal(p.layer.FanOut, p.rank, rng), size*cfg.rescale())
			f.b = scaled(orthonormal(p.layer.FanIn, p.rank, rng), size/cfg.rescale())
		}
		if err := s.createFactors(p, f, f); err != nil {
			return nil, err
		}
		if err := store.DeleteVariable(p.layer.Weight); err != nil {
			return nil, fmt.Errorf("layer %s: %w", p.layer.Name, err)
		}
	}
	return s, nil
}
