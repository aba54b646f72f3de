package optimizer

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/metric"
	gomlx "github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/polargo/polar/param"
)

// Route says how one trainable variable is updated.
type Route struct {
	Variable string
	Shape    []int
	// Role is "" for a variable that was never tagged, which only some optimizers accept.
	Role param.Role
	Rule string
	// LearningRate is the variable's peak learning rate; the schedule and the width scale multiply it.
	LearningRate float64
	// StateBytes is the optimizer state kept for this variable.
	StateBytes int64
}

// Routes lists how each trainable variable of the store is updated, in the store's order. It returns an error that
// names every variable that cannot be routed: never tagged, of a role without a rule, or a factor without its partner.
func (o *Optimizer) Routes(store *mlmodel.Store) ([]Route, error) {
	groups, err := o.groups(store, trainableOf(store))
	if err != nil {
		return nil, err
	}
	position := map[string]int{}
	for v := range store.IterVariables() {
		position[v.Path()] = len(position)
	}
	var routes []Route
	for _, gr := range groups {
		bytes := gr.stateBytes()
		for _, m := range gr.members {
			for i, v := range m.vars {
				spec, _, err := param.Lookup(store, v)
				if err != nil {
					return nil, err
				}
				routes = append(routes, Route{
					Variable: v.Path(), Shape: v.Shape().Dimensions, Role: spec.Role, Rule: gr.to.rule.Name(),
					LearningRate: o.baseRate(gr.to.rate) * gr.to.multiple,
					StateBytes:   bytes[i] * int64(v.Shape().Size()) / gr.sizeOf(i),
				})
			}
		}
	}
	slices.SortFunc(routes, func(a, b Route) int { return cmp.Compare(position[a.Variable], position[b.Variable]) })
	return routes, nil
}

// stateBytes returns the bytes of state that belong to each value of the group.
func (gr *Group) stateBytes() []int64 {
	bytes := make([]int64, gr.values())
	for _, slot := range gr.to.rule.State(gr.Dims()) {
		n := int64(4) // float32
		for _, d := range slot.Dims {
			n *= int64(d)
		}
		bytes[slot.Of] += n
	}
	return bytes
}

// sizeOf returns the number of elements of the group's value i.
func (gr *Group) sizeOf(i int) int64 {
	n := int64(1)
	for _, d := range gr.Dims()[i] {
		n *= int64(d)
	}
	return max(n, 1)
}

// trainableOf lists the store's trainable variables, without what optimizers and the trainer keep for themselves.
func trainableOf(store *mlmodel.Store) []*mlmodel.Variable {
	return slices.DeleteFunc(trainable(store.IterVariables()), bookkeeping)
}

// trainable collects the trainable variables of an iteration.
func trainable(all iter.Seq[*mlmodel.Variable]) []*mlmodel.Variable {
	var vars []*mlmodel.Variable
	for v := range all {
		if v.Trainable {
			vars = append(vars, v)
		}
	}
	return vars
}

// bookkeeping reports whether GoMLX's trainer or an optimizer keeps v for itself. A store read from a checkpoint marks
// such variables as trainable until the program that uses them says otherwise.
func bookkeeping(v *mlmodel.Variable) bool {
	if v.Path() == "/"+gomlx.GlobalStepVariableName {
		return true
	}
	for _, scope := range []string{gomlx.Scope, train.AccumulatedGradientsScope, metric.Scope} {
		if strings.HasPrefix(v.Path(), "/"+scope+"/") {
			return true
		}
	}
	return strings.HasPrefix(v.Path(), ProtectedScope+"/")
}

// routed is a variable with its description and where it goes.
type routed struct {
	v    *mlmodel.Variable
	spec param.Spec
	to   assignment
}

// groups routes the variables and gathers them into groups, in order of the groups' names.
func (o *Optimizer) groups(store mlmodel.StoreProvider, vars []*mlmodel.Variable) ([]*Group, error) {
	all, err := o.route(store, vars)
	if err != nil {
		return nil, err
	}
	gathered := map[groupKey][]member{}
	pairs := map[string][]routed{}
	for _, r := range all {
		if r.to.rule.Layout() == Paired {
			pairs[r.spec.Layer] = append(pairs[r.spec.Layer], r)
			continue
		}
		m := member{path: r.v.Path(), vars: []*mlmodel.Variable{r.v}}
		key := r.to.key(m, r.spec)
		gathered[key] = append(gathered[key], m)
	}
	if err := gatherPairs(gathered, pairs); err != nil {
		return nil, err
	}
	return sorted(gathered), nil
}

// route decides for each variable, and gathers all refusals into one error.
func (o *Optimizer) route(store mlmodel.StoreProvider, vars []*mlmodel.Variable) ([]routed, error) {
	var all []routed
	var untagged, refused []string
	onManifold := o.cfg.Manifold.choice()
	for _, v := range vars {
		spec, tagged, err := param.Lookup(store, v)
		if err != nil {
			return nil, fmt.Errorf("optimizer %s: %w", o.cfg.Name, err)
		}
		if !v.DType().IsFloat() {
			refused = append(refused, fmt.Sprintf("%s has type %s, which has no gradient", v.Path(), v.DType()))
			continue
		}
		if !tagged {
			if o.entry.untagged == nil {
				untagged = append(untagged, fmt.Sprintf("%s %v", v.Path(), v.Shape().Dimensions))
				continue
			}
			all = append(all, routed{v, spec, o.entry.untagged(o.cfg)})
			continue
		}
		if err := spec.Check(v.Shape().Dimensions); err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v", v.Path(), err))
			continue
		}
		to, found := o.entry.route(o.cfg, spec)
		if !found {
			refused = append(refused, fmt.Sprintf("%s has role %s, for which it has no rule", v.Path(), spec.Role))
			continue
		}
		if to, err = onManifold.onto(to, v, spec); err != nil {
			refused = append(refused, err.Error())
		}
		if to, err = to.place(o.cfg, store, spec); err != nil {
			refused = append(refused, err.Error())
		}
		all = append(all, routed{v, spec, to})
	}
	if err := onManifold.unmatched(); err != nil {
		refused = append(refused, err.Error())
	}
	if len(untagged) > 0 {
		refused = append(refused, fmt.Sprintf("trainable variables without a role: %s (say what each is with param.Tag, "+
			"or freeze it with SetTrainable(false))", strings.Join(untagged, ", ")))
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("optimizer %s: %s", o.cfg.Name, strings.Join(refused, "; "))
	}
	return all, nil
}

// gatherPairs joins the factors of each layer and adds the pairs to their groups.
func gatherPairs(gathered map[groupKey][]member, pairs map[string][]routed) error {
	var bad []string
	for layer, factors := range pairs {
		slices.SortFunc(factors, func(x, y routed) int { return cmp.Compare(x.spec.Side, y.spec.Side) })
		if problem := pairProblem(factors); problem != "" {
			bad = append(bad, fmt.Sprintf("pair %q %s", layer, problem))
			continue
		}
		m := member{path: layer, vars: []*mlmodel.Variable{factors[0].v, factors[1].v}}
		key := factors[0].to.key(m, factors[0].spec)
		gathered[key] = append(gathered[key], m)
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return fmt.Errorf("low-rank pairs cannot be updated: %s", strings.Join(bad, "; "))
	}
	return nil
}

// pairProblem says what is wrong with the factors found for one layer, sorted by side; "" when they are a pair.
func pairProblem(factors []routed) string {
	if len(factors) == 1 {
		missing := param.SideB
		if factors[0].spec.Side == param.SideB {
			missing = param.SideA
		}
		return fmt.Sprintf("has %s but no trainable factor %s that the loss depends on", factors[0].v.Path(), missing)
	}
	var paths []string
	for _, f := range factors {
		paths = append(paths, fmt.Sprintf("%s %v", f.v.Path(), f.v.Shape().Dimensions))
	}
	listed := strings.Join(paths, ", ")
	if len(factors) != 2 || factors[0].spec.Side == factors[1].spec.Side {
		return "wants one factor on each side, has " + listed
	}
	a, b := factors[0], factors[1]
	switch {
	case a.v.Shape().Dim(-1) != b.v.Shape().Dim(-1):
		return "has factors of different rank: " + listed
	case a.spec.FanOut != b.spec.FanOut || a.spec.FanIn != b.spec.FanIn || a.spec.S() != b.spec.S():
		return "has factors that disagree on the layer's width or scale: " + listed
	}
	return ""
}

// sorted returns the groups of the gathered members in order of their names.
func sorted(gathered map[groupKey][]member) (groups []*Group) {
	for key, members := range gathered {
		groups = append(groups, split(key, members)...)
	}
	slices.SortFunc(groups, func(a, b *Group) int { return cmp.Compare(a.Name(), b.Name()) })
	return groups
}

// split sorts members and cuts them into groups of at most maxGroupElements, at least one member each.
func split(key groupKey, members []member) []*Group {
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.path, b.path) })
	var groups []*Group
	var current *Group
	filled := 0
	for _, m := range members {
		size := 0
		for _, v := range m.vars {
			size += v.Shape().Size()
		}
		if current == nil || filled+size > maxGroupElements {
			current = &Group{
				FanOut: key.fanOut, FanIn: key.fanIn, Rank: key.rank, Scale: key.scale, transposed: key.transposed,
				to: assignment{rule: key.rule, rate: key.rate, multiple: key.multiple},
			}
			groups, filled = append(groups, current), 0
		}
		current.members = append(current.members, m)
		filled += size
	}
	return groups
}
