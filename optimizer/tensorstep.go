package optimizer

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/graphx"
	"github.com/polargo/polar/param"
)

// TensorStep is one step of an optimizer on tensors that are held by name, outside of any training: to look at a rule, or to
// compare it with another program's.
//
// A low-rank pair is A [m, r] and B [n, r] of W_pre + s·A Bᵀ, a dense weight W [m, n]; each comes with its gradient grad_A,
// grad_B, grad_W. A state array has the name of its slot and what it belongs to: m_A, v_B, L_W. All are float32. With
// lora-muon-ogd, U [m, p] and V [n, q] are past directions to Protect, and its multiplier is lambda.
type TensorStep struct {
	Config Config
	// Count is the number of the step, from 1; bias corrections depend on it.
	Count int
	// S is s of the pair; 0 means 1.
	S float64
}

// unit is what is updated in a store of its own: a weight, a pair, or for rules on elements one factor of a pair.
type unit struct {
	names []string // of the parameters
	specs []param.Spec
	group *Group
	store *mlmodel.Store
	vars  []*mlmodel.Variable
	also  []string // further tensors that the unit reads
}

// Run returns all tensors of in, parameters and state replaced by those after the step, and the state that was missing and
// counted as zero. The input is not changed.
//
// Accuracy: with Config.Exact the changes are within 1e-5 of those by float64 SVDs, for factors of condition number up to 1e5
// (TestTensorStepOracle); the results are rounded to float32.
// It returns an error that names every tensor which is unknown, missing, of another shape or not finite, and for results that
// are not finite.
func (t TensorStep) Run(backend compute.Backend, in map[string]*tensors.Tensor) (map[string]*tensors.Tensor, error) {
	o, err := New(t.Config)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Count < 1:
		return nil, fmt.Errorf("optimizer %s: step %d, but steps count from 1", o.cfg.Name, t.Count)
	case !(t.S >= 0) || math.IsInf(t.S, 0):
		return nil, fmt.Errorf("optimizer %s: s is %g, want it positive and finite", o.cfg.Name, t.S)
	}
	units, err := t.units(o, in)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", o.cfg.Name, err)
	}
	if err := checkTensors(units, in); err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", o.cfg.Name, err)
	}
	out := maps.Clone(in)
	for _, u := range units {
		if err := u.step(backend, o, t.Count, in, out); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if problem := notFinite(out[name]); problem != "" {
			return nil, fmt.Errorf("optimizer %s: after the step %s%s, not finite in float32", o.cfg.Name, name, problem)
		}
	}
	return out, nil
}

// units finds the parameters among the tensors and routes them.
func (t TensorStep) units(o *Optimizer, in map[string]*tensors.Tensor) (units []*unit, err error) {
	has := func(name string) bool { return in[name] != nil }
	if !has("A") && !has("B") && !has("W") {
		return nil, fmt.Errorf("no parameters: want the tensors A and B of a pair, or W, and have %s", list(in))
	}
	for _, name := range []string{"A", "B", "W"} {
		if has(name) && in[name].Rank() != 2 {
			return nil, fmt.Errorf("%s has the shape %v, want a matrix", name, in[name].Shape().Dimensions)
		}
		if has(name) && in[name].Size() == 0 {
			return nil, fmt.Errorf("%s is empty: its shape is %v", name, in[name].Shape().Dimensions)
		}
	}
	if has("A") != has("B") {
		return nil, fmt.Errorf("a pair is A and B, but only one of them is there: %s", list(in))
	}
	if has("A") {
		a, b := in["A"].Shape().Dimensions, in["B"].Shape().Dimensions
		if a[1] != b[1] {
			return nil, fmt.Errorf("a pair is A [m, r] and B [n, r], but A has the shape %v and B the shape %v", a, b)
		}
		specA := param.Spec{Role: param.Pair, FanOut: a[0], FanIn: b[0], Layer: "pair", Side: param.SideA, Scale: t.S}
		specB := specA
		specB.Side = param.SideB
		to, found := o.entry.route(o.cfg, specA)
		if !found {
			return nil, fmt.Errorf("it has no rule for pairs A and B, only for W; those that have: %s",
				strings.Join(Names(func(info Info) bool { return info.Pairs }), ", "))
		}
		if to.rule.Layout() == Paired {
			units = append(units, &unit{names: []string{"A", "B"}, specs: []param.Spec{specA, specB}})
		} else {
			units = append(units, &unit{names: []string{"A"}, specs: []param.Spec{specA}}, &unit{names: []string{"B"}, specs: []param.Spec{specB}})
		}
	}
	if has("W") {
		w := in["W"].Shape().Dimensions
		spec := param.Spec{Role: param.Hidden, FanOut: w[0], FanIn: w[1]}
		if _, found := o.entry.route(o.cfg, spec); !found {
			return nil, fmt.Errorf("it has no rule for a dense weight W, only for pairs A and B")
		}
		units = append(units, &unit{names: []string{"W"}, specs: []param.Spec{spec}})
	}
	for _, u := range units {
		if err := u.place(o, in); err != nil {
			return nil, err
		}
	}
	return units, nil
}

// place puts the parameters into a store and groups them.
func (u *unit) place(o *Optimizer, in map[string]*tensors.Tensor) error {
	u.store = mlmodel.NewStore()
	for i, name := range u.names {
		value, err := in[name].LocalClone()
		if err != nil {
			return err
		}
		v := u.store.VariableWithValue("/"+name, value)
		if err := param.Tag(u.store, v, u.specs[i]); err != nil {
			return err
		}
		u.vars = append(u.vars, v)
	}
	if err := u.protect(o, in); err != nil {
		return err
	}
	groups, err := o.groups(u.store, u.vars)
	if err != nil {
		return err
	}
	u.group = groups[0]
	return nil
}

// slots returns the name and shape as a tensor of each of the unit's state arrays, in the rule's order.
func (u *unit) slots() (slots []Slot, names []string, shapes [][]int) {
	slots = u.group.to.rule.State(u.group.Dims())
	for _, slot := range slots {
		name, dims := slot.Name+"_"+u.names[0], slot.Dims[1:] // one member
		switch u.group.to.rule.Layout() {
		case Flat:
			dims = u.vars[0].Shape().Dimensions
		case Paired:
			name = slot.Name
			for _, side := range []string{"A", "B"} {
				if base, ok := strings.CutSuffix(name, side); ok && base != "" {
					name = base + "_" + side
					break
				}
			}
		}
		names, shapes = append(names, name), append(shapes, dims)
	}
	return slots, names, shapes
}

// checkTensors reports tensors that are missing, unknown, of another shape or not finite.
func checkTensors(units []*unit, in map[string]*tensors.Tensor) error {
	var bad, known []string
	expect := func(name string, want []int) {
		known = append(known, name)
		x := in[name]
		if x == nil {
			return
		}
		if got := x.Shape().Dimensions; !slices.Equal(got, want) {
			bad = append(bad, fmt.Sprintf("%s has the shape %v, want %v", name, got, want))
		} else if problem := notFinite(x); problem != "" {
			bad = append(bad, fmt.Sprintf("%s%s, want finite numbers", name, problem))
		}
	}
	for _, u := range units {
		for i, name := range u.names {
			dims := u.vars[i].Shape().Dimensions
			expect(name, dims)
			if expect("grad_"+name, dims); in["grad_"+name] == nil {
				bad = append(bad, fmt.Sprintf("%s has no gradient grad_%s", name, name))
			}
		}
		_, names, shapes := u.slots()
		for i, name := range names {
			expect(name, shapes[i])
		}
		known = append(known, u.also...)
	}
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		bad = append(bad, fmt.Sprintf("unknown: %s; known here: %s", strings.Join(unknown, ", "), strings.Join(known, ", ")))
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return nil
}

// step takes the step of one unit and puts parameters and state after it into out.
func (u *unit) step(backend compute.Backend, o *Optimizer, count int, in, out map[string]*tensors.Tensor) error {
	slots, names, shapes := u.slots()
	scope := Scope + "/" + u.group.Name()
	for i, name := range names {
		if in[name] == nil {
			continue // the rule starts from zero
		}
		flat, err := tensors.CopyFlatData[float32](in[name])
		if err != nil {
			return err
		}
		u.store.Scope(scope).VariableWithValue(slots[i].Name, tensors.FromFlatDataAndDimensions(flat, slots[i].Dims...)).SetTrainable(false)
	}
	u.store.Scope(Scope).VariableWithValue(countName, int64(count-1)).SetTrainable(false)
	exec, err := mlmodel.NewExec(backend, u.store, func(scope *mlmodel.Scope, grads []*Node) *Node {
		updates := make([]VarGrad, len(u.vars))
		for i, v := range u.vars {
			updates[i] = VarGrad{v, grads[i]}
		}
		o.Apply(scope, grads[0].Graph(), updates)
		return grads[0]
	})
	if err != nil {
		return err
	}
	defer exec.Finalize()
	var grads []any
	for _, name := range u.names {
		grads = append(grads, in["grad_"+name])
	}
	if err := graphx.Try(func() error { _, err := exec.Call(grads...); return err }); err != nil {
		return err
	}
	read := func(path, name string, dims []int) error {
		value, err := u.store.GetVariable(path).Value()
		if err != nil {
			return err
		}
		flat, err := tensors.CopyFlatData[float32](value)
		if err == nil {
			out[name] = tensors.FromFlatDataAndDimensions(flat, dims...)
		}
		return err
	}
	for _, name := range u.names {
		if err := read("/"+name, name, in[name].Shape().Dimensions); err != nil {
			return err
		}
	}
	for i, name := range names {
		if err := read(scope+"/"+slots[i].Name, name, shapes[i]); err != nil {
			return err
		}
	}
	return nil
}

// notFinite says which element of a float32 tensor is the first that is NaN or infinite: "[1 2] is nan"; "" for none.
func notFinite(x *tensors.Tensor) (problem string) {
	dims := x.Shape().Dimensions
	tensors.MustConstFlatData(x, func(flat []float32) {
		for i, value := range flat {
			if value-value == 0 {
				continue
			}
			at := make([]int, len(dims))
			for axis := len(dims) - 1; axis >= 0; axis-- {
				at[axis] = i % dims[axis]
				i /= dims[axis]
			}
			problem = fmt.Sprintf("%v is %s", at, strings.ToLower(strings.TrimPrefix(fmt.Sprint(value), "+")))
			return
		}
	})
	return problem
}

// list names tensors with their shapes.
func list(in map[string]*tensors.Tensor) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(in)) {
		parts = append(parts, fmt.Sprintf("%s %v", name, in[name].Shape().Dimensions))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// WidthScaled reports whether Config.Scale multiplies the steps of the optimizer called name.
func WidthScaled(name string) bool {
	e, err := find(name)
	return err == nil && e.msign
}
