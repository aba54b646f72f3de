package optimizer

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/param"
)

// InvarianceBound is the drift up to which a step counts as the same in every gauge. Rules that are invariant stay below a
// hundredth of it, and those that are not are rarely below a hundred times it (docs/invariance.md).
const InvarianceBound = 1e-3

// PairDrift is how much the step of one pair's product depends on the gauge of the pair.
//
// A change of gauge, (A, B) → (A G, B G^{-T}), does not change the product A Bᵀ. A drift is ‖ΔW' - ΔW‖_F/‖ΔW‖_F for the change
// ΔW of the product in one step, ΔW' from the other gauge; 1 where ΔW is zero and ΔW' is not. General is that of the first order,
// ΔA Bᵀ + A ΔBᵀ, for a random G of a given condition number, Scalar that of the whole change for G = c·I, both computed as in
// training. GeneralWide and ScalarWide are the same in float64, where the rule is left and rounding is not.
type PairDrift struct {
	Layer       string  `json:"layer"`
	General     float64 `json:"general"`
	Scalar      float64 `json:"scalar"`
	GeneralWide float64 `json:"general_float64"`
	ScalarWide  float64 `json:"scalar_float64"`
	// Step is s·‖ΔA Bᵀ + A ΔBᵀ‖_F.
	Step float64 `json:"step_norm"`
}

// Worst returns the larger drift as in training, WorstWide the larger one in float64.
func (d PairDrift) Worst() float64     { return max(d.General, d.Scalar) }
func (d PairDrift) WorstWide() float64 { return max(d.GeneralWide, d.ScalarWide) }

// Certifier measures how much the steps of an optimizer on the low-rank pairs of a store depend on their gauge. Make one with
// NewCertifier; it is for one goroutine, as its store is.
type Certifier struct {
	o     *Optimizer
	how   Regauging
	store *mlmodel.Store
	vars  []*mlmodel.Variable
	pairs []*Group
	sides map[*mlmodel.Variable]param.Side // of the pairs' factors
	laws  func(Rule) func(slot string) carry
	exec  *mlmodel.Exec
}

// NewCertifier prepares the check of the steps that the optimizer takes on vars. It returns an error when one of them cannot be
// routed or there is no pair among them.
func (o *Optimizer) NewCertifier(backend compute.Backend, store *mlmodel.Store, vars []*mlmodel.Variable, how Regauging) (*Certifier, error) {
	if err := how.check(); err != nil {
		return nil, err
	}
	if _, err := o.groups(store, vars); err != nil {
		return nil, err
	}
	pairs, err := pairGroups(store, vars)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", o.cfg.Name, err)
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("optimizer %s: no low-rank pairs whose gauge could change", o.cfg.Name)
	}
	// What follows a step and has its own laws is left out. The learning rates are those that the store has.
	cfg := o.cfg
	cfg.RebalanceEvery, cfg.SpectralBudget = 0, 0
	plain := &Optimizer{cfg: cfg, entry: o.entry, attached: map[*mlmodel.Store]bool{store: true}}
	c := &Certifier{o: plain, how: how, store: store, vars: vars, pairs: pairs, sides: map[*mlmodel.Variable]param.Side{}, laws: carryOf}
	for _, gr := range pairs {
		for _, m := range gr.members {
			c.sides[m.vars[0]], c.sides[m.vars[1]] = param.SideA, param.SideB
		}
	}
	c.exec, err = mlmodel.NewExec(backend, store, c.build)
	return c, err
}

// Close releases the compiled check.
func (c *Certifier) Close() { c.exec.Finalize() }

// Notes says, a line each, how the rules' state is carried to the other gauge where no exact law does it.
func (c *Certifier) Notes() (notes []string) {
	groups, err := c.o.groups(c.store, c.vars)
	if err != nil {
		return []string{err.Error()}
	}
	add := func(gr *Group, note string) {
		if note = gr.to.rule.Name() + ": " + note; !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	for _, gr := range groups {
		if !gr.hasPairs(c.sides) {
			continue
		}
		law := c.laws(gr.to.rule)
		for _, slot := range gr.to.rule.State(gr.Dims()) {
			if law == nil {
				add(gr, "compared from fresh state, because its state has no law")
				continue
			}
			switch law(slot.Name) {
			case carryGradientSquares, carryFactorSquares:
				add(gr, "second moments are carried by squared entries of G, which is exact for a scalar gauge only")
			}
		}
	}
	return notes
}

// Check compares the step that the optimizer would take now, from the store's variables and state and the given gradients, one
// for each of the variables, all divided by divisor. It changes neither the store nor the gradients, and keeps no state.
//
// Weight decay is part of the steps and the same in every gauge; rebalancing and a spectral budget, which follow a step, are not.
// The difference is measured in the gauge of the store, as (ΔA' G⁻¹ - ΔA) Bᵀ + A (ΔB' Gᵀ - ΔB)ᵀ and its norm from r x r
// matrices in float64, so that no product is formed and a drift of 1e-8 is still one.
// Cost: three steps in float32 and three in float64.
// It returns an error that names the first layer whose step is not finite.
func (c *Certifier) Check(divisor float64, gradients []*tensors.Tensor) ([]PairDrift, error) {
	if len(gradients) != len(c.vars) {
		return nil, fmt.Errorf("invariance check: %d gradients for %d variables", len(gradients), len(c.vars))
	}
	args := []any{float32(divisor)}
	for _, g := range gradients {
		args = append(args, g)
	}
	outputs, err := graphx.Try1(func() ([]*tensors.Tensor, error) { return c.exec.Exec(args...) })
	if err != nil {
		return nil, fmt.Errorf("invariance check: %w", err)
	}
	figures := make([][]float64, len(outputs))
	for i, out := range outputs {
		if figures[i], err = tensors.CopyFlatData[float64](out); err != nil {
			return nil, err
		}
		_ = out.FinalizeAll()
	}
	var drifts []PairDrift
	for _, gr := range c.pairs {
		for _, m := range gr.members {
			of := func(figure int) float64 { return figures[figure][len(drifts)] }
			d := PairDrift{
				Layer: m.path, General: ratio(of(0), of(1)), Scalar: ratio(of(2), of(3)),
				GeneralWide: ratio(of(4), of(5)), ScalarWide: ratio(of(6), of(7)), Step: gr.Scale * math.Sqrt(of(1)),
			}
			if sum := d.General + d.Scalar + d.GeneralWide + d.ScalarWide + d.Step; sum-sum != 0 {
				return nil, fmt.Errorf("invariance check: the step of layer %s is not finite", m.path)
			}
			drifts = append(drifts, d)
		}
	}
	return drifts, nil
}

// ratio is the root of the ratio of two squared norms; 0/0 is 0 and anything else over zero 1.
func ratio(difference, whole float64) float64 {
	switch {
	case difference <= 0: // rounding may leave it below zero
		return 0
	case whole <= 0:
		return 1
	}
	return math.Sqrt(difference / whole)
}

// hasPairs reports whether factors of pairs are among the group's variables.
func (gr *Group) hasPairs(sides map[*mlmodel.Variable]param.Side) bool {
	return slices.ContainsFunc(gr.members, func(m member) bool { return sides[m.vars[0]] != "" })
}

// build is the graph of Check: the divisor and the gradients to eight figures of every pair, the squared norms of the difference
// and of the step, for the general and the scalar gauge, as in training and in float64.
func (c *Certifier) build(scope *mlmodel.Scope, inputs []*Node) (figures []*Node) {
	g := inputs[0].Graph()
	grads := map[*mlmodel.Variable]*Node{}
	for i, v := range c.vars {
		grads[v] = Div(inputs[1+i], inputs[0])
	}
	for _, dtype := range []dtypes.DType{c.o.cfg.dtype(), dtypes.Float64} {
		asIs := c.step(scope, g, grads, dtype, nil)
		general := c.step(scope, g, grads, dtype, c.regauge(g, c.how.general))
		scalar := c.step(scope, g, grads, dtype, c.regauge(g, c.how.scalar))
		figures = append(figures, c.drift(g, asIs, general, false)...)
		figures = append(figures, c.drift(g, asIs, scalar, true)...)
	}
	return figures
}

// changes are the changes of factors in one step, in float64 and in the gauge of the store.
type changes map[*mlmodel.Variable]*Node

// step builds one step from the re-gauged store, as it is for nil, in the given dtype, and leaves the store's variables as they
// were.
func (c *Certifier) step(scope *mlmodel.Scope, g *Graph, grads map[*mlmodel.Variable]*Node, dtype dtypes.DType, to *regauge) changes {
	groups, err := c.o.groups(scope, c.vars)
	if err != nil {
		panic(err)
	}
	rates, count := c.o.advance(scope, g)
	stacked := make([][]*Node, len(groups))
	for i, gr := range groups {
		stacked[i] = gr.stack(dtype, func(v *mlmodel.Variable) *Node { return to.apply(v, grads[v], carryGradient) })
	}
	if c.o.cfg.ClipNorm > 0 {
		clip(groups, stacked, c.o.cfg.ClipNorm)
	}
	moved := changes{}
	for i, gr := range groups {
		if !gr.hasPairs(c.sides) {
			continue
		}
		at := c.o.stepOf(scope, gr, dtype, rates, count)
		law := c.laws(gr.to.rule)
		if to.carry(at, law); law == nil {
			at.Count = OnesLike(at.Count)
		}
		values := gr.stack(dtype, func(v *mlmodel.Variable) *Node { return to.apply(v, v.NodeValue(g), carryFactor) })
		next := gr.to.rule.Update(at, values, stacked[i])
		for j := range next {
			next[j] = Sub(as(dtypes.Float64, next[j]), as(dtypes.Float64, values[j]))
		}
		gr.unstack(next, func(v *mlmodel.Variable, x *Node) { moved[v] = to.back(v, x) })
	}
	for v := range scope.Store().IterVariables() {
		if v.ChangedInGraph(g) {
			v.SetNodeValue(g.GetParameterByName(v.Path()))
		}
	}
	return moved
}

// drift returns two vectors with an element for each pair: the squared norm of the difference between two steps, and of the
// first one. whole compares the whole changes of the product, not their first order.
func (c *Certifier) drift(g *Graph, one, other changes, whole bool) []*Node {
	var differences, sizes []*Node
	for _, gr := range c.pairs {
		stack := func(node func(v *mlmodel.Variable) *Node) (a, b *Node) {
			both := gr.stack(dtypes.Float64, node)
			return both[0], both[1]
		}
		a, b := stack(func(v *mlmodel.Variable) *Node { return v.NodeValue(g) })
		dA, dB := stack(func(v *mlmodel.Variable) *Node { return one[v] })
		eA, eB := stack(func(v *mlmodel.Variable) *Node { return Sub(other[v], one[v]) })
		nextA, nextB, otherB := a, b, b
		if whole {
			nextA, nextB = Add(a, dA), Add(b, dB)
			otherB = Add(nextB, eB)
		}
		differences = append(differences, sumNorm(eA, otherB, nextA, eB))
		sizes = append(sizes, sumNorm(dA, nextB, a, dB))
	}
	return []*Node{Concatenate(differences, 0), Concatenate(sizes, 0)}
}

// sumNorm returns ‖X Yᵀ + Z Vᵀ‖_F² [k] for [k, m, r] and [k, n, r] from the r x r matrices between them.
func sumNorm(x, y, z, v *Node) *Node {
	between := func(p, q *Node) *Node { return timesTransposed(Transpose(p, 1, 2), Transpose(q, 1, 2)) }
	dot := func(p, q *Node) *Node { return ReduceSum(Mul(p, q), 1, 2) }
	own := Add(dot(between(x, x), between(y, y)), dot(between(z, z), between(v, v)))
	return Add(own, MulScalar(dot(between(x, z), between(y, v)), 2))
}
