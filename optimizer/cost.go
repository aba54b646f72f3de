package optimizer

import (
	"fmt"

	"github.com/polargo/polar/param"
)

// Cost is what an optimizer does and keeps for one layer.
type Cost struct {
	// Flops are the operations of one step (a multiplication and an addition are two), as Rule.Flops counts them.
	Flops int64
	// StateBytes is the size of the optimizer's state between steps.
	StateBytes int64
	// Pair tells whether the layer was a low-rank pair; false when the optimizer only takes it as a dense weight.
	Pair bool
}

// CostOf returns the cost of a layer of fan-out m and fan-in n: trained as a pair of rank r, or as a dense weight when r is
// 0 or the optimizer has no rule for pairs; a dense weight is taken as one that cfg.Manifold was chosen for.
func CostOf(cfg Config, m, n, r int) (Cost, error) {
	if m < 1 || n < 1 || r < 0 {
		return Cost{}, fmt.Errorf("cost of a layer: got fan-out %d, fan-in %d, rank %d; want positive widths", m, n, r)
	}
	e, err := find(cfg.Name)
	if err != nil {
		return Cost{}, err
	}
	pair := param.Spec{Role: param.Pair, FanOut: m, FanIn: n, Layer: "layer", Side: param.SideA}
	if to, found := e.route(cfg, pair); found && r > 0 {
		dims := [][]int{{1, m, r}, {1, n, r}}
		if to.rule.Layout() == Flat {
			dims = [][]int{{(m + n) * r}}
		}
		cost := costOf(to.rule, dims, true)
		if cfg.SpectralBudget > 0 {
			_, capped := BudgetFlops(m, n, r)
			cost.Flops += capped
		}
		return cost, nil
	}
	to, found := e.route(cfg, param.Spec{Role: param.Hidden, FanOut: m, FanIn: n})
	if !found {
		return Cost{}, fmt.Errorf("optimizer %s takes low-rank pairs only: give a rank", cfg.Name)
	}
	if muon, isMuon := to.rule.(muonRule); isMuon && cfg.Manifold.On() {
		if cfg.Manifold.set().Symmetric() && m != n {
			return Cost{}, fmt.Errorf("cost of a layer of fan-out %d and fan-in %d: set %s is of square matrices", m, n, cfg.Manifold.Set)
		}
		to.rule = newManifoldRule(muon, cfg.Manifold)
	}
	dims := [][]int{{1, m, n}}
	if to.rule.Layout() == Flat {
		dims = [][]int{{m * n}}
	}
	return costOf(to.rule, dims, false), nil
}

func costOf(rule Rule, dims [][]int, pair bool) Cost {
	cost := Cost{Flops: rule.Flops(dims), Pair: pair}
	for _, slot := range rule.State(dims) {
		cost.StateBytes += 4 * elements(slot.Dims)
	}
	return cost
}

// elements returns the product of dims.
func elements(dims []int) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= int64(d)
	}
	return n
}
