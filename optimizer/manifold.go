package optimizer

import (
	"fmt"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/manifold"
)

// manifoldRule is Muon in a set M: with V = W/scale and m the momentum,
//
//	D = argmin <m, D>, ‖D‖ <= 1, D in the tangent cone of M at V;   V ← retract((1 - lambda·eta) V + eta·D)
//
// so that V is in M after every step. A V that begins outside is brought in by the first; Optimizer.Retract does it before.
// Ref: Cesista 2025, "Steepest Descent on Finsler-Structured (Matrix) Manifolds", leloykun.github.io/ponder/steepest-descent-finsler.
type manifoldRule struct {
	muonRule
	set    manifold.Set
	solver manifold.Solver
}

func newManifoldRule(muon muonRule, m Manifold) manifoldRule {
	return manifoldRule{muonRule: muon, set: m.set(), solver: m.solver()}
}

// Name tells the set and the solver, since state for one means nothing to another.
func (r manifoldRule) Name() string {
	return fmt.Sprintf("%s-%s", r.set.Name, r.solver.Name)
}

// memory names the state that a solver wants to see again, in the order of Solver.Direction.
func (r manifoldRule) memory() []string {
	return map[string][]string{manifold.PDHG: {"direction", "multiplier"}, manifold.Dual: {"multiplier"}}[r.solver.Name]
}

func (r manifoldRule) State(dims [][]int) []Slot {
	slots := r.muonRule.State(dims)
	for _, name := range r.memory() {
		slots = append(slots, Slot{name, 0, dims[0]})
	}
	return slots
}

// Flops counts as many iterations of a solver as it may take.
func (r manifoldRule) Flops(dims [][]int) int64 {
	k, m, n := int64(dims[0][0]), dims[0][1], dims[0][2]
	return k * (r.solver.DirectionFlops(r.set, m, n) + r.set.RetractFlops(m, n))
}

func (r manifoldRule) Update(s *Step, values, grads []*Node) []*Node {
	scale := widthScale(r.scale, s.Group.FanOut, s.Group.FanIn)
	v := MulScalar(values[0], 1/scale)
	var start []*Node
	for _, name := range r.memory() {
		start = append(start, s.State(name))
	}
	direction, next := r.solver.Direction(r.set, v, s.Momentum("m", grads[0], r.beta, r.nesterov), start, s.options()...)
	for i, name := range r.memory() {
		s.SetState(name, next[i])
	}
	v = Add(decay(v, s.Rate, r.weightDecay), Mul(direction, s.Rate))
	return []*Node{MulScalar(r.set.Retract(v, s.options()...), scale)}
}

// Retract brings the variables of the store that a manifold was chosen for into their set: each becomes the nearest matrix of the
// set. Without it the first step does it, after a gradient taken outside. It does nothing without a manifold.
func (o *Optimizer) Retract(backend compute.Backend, store *mlmodel.Store) error {
	if !o.cfg.Manifold.On() {
		return nil
	}
	groups, err := o.groups(store, trainableOf(store))
	if err != nil {
		return err
	}
	exec, err := mlmodel.NewExec(backend, store, func(_ *mlmodel.Scope, unit *Node) *Node {
		for _, gr := range groups {
			rule, is := gr.to.rule.(manifoldRule)
			if !is {
				continue
			}
			scale := widthScale(rule.scale, gr.FanOut, gr.FanIn)
			w := gr.stack(o.cfg.dtype(), func(v *mlmodel.Variable) *Node { return v.NodeValue(unit) })[0]
			gr.assign([]*Node{MulScalar(rule.set.Retract(MulScalar(w, 1/scale)), scale)})
		}
		return unit
	})
	if err != nil {
		return err
	}
	defer exec.Finalize()
	if _, err := exec.Call(float32(1)); err != nil {
		return fmt.Errorf("optimizer %s: retract the weights: %w", o.cfg.Name, err)
	}
	return nil
}
