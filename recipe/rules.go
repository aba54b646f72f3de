package recipe

import (
	"github.com/polargo/polar/manifold"
	"github.com/polargo/polar/optimizer"
)

// plainRule returns an optimizer without decay and without a set, at the given momentum.
func plainRule(name string, momentum float64) (optimizer.Config, error) {
	cfg, err := optimizer.Default(name)
	if err != nil {
		return cfg, err
	}
	cfg.Momentum, cfg.WeightDecay = momentum, 0
	return cfg, nil
}

// setRule returns Muon with the weights times sqrt(n/m) kept in a set, so that radii and rates are in RMS→RMS norm. The radius
// is for the ball alone; the spectrahedron is [-1, 1]. steps are those of the solver, 0 for its usual number.
func setRule(set string, radius float64, solver string, steps int, momentum float64) (optimizer.Config, error) {
	cfg, err := plainRule("muon", momentum)
	if err != nil {
		return cfg, err
	}
	cfg.Manifold = optimizer.Manifold{Set: set, Solver: solver, Steps: steps}
	switch set {
	case manifold.Ball:
		cfg.Manifold.Radius = radius
	case manifold.Spectrahedron:
		cfg.Manifold.Lo, cfg.Manifold.Hi = -1, 1
	}
	return cfg, cfg.Validate()
}
