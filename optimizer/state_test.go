package optimizer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train"
	gomlx "github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
)

// TestSaveAndRestore: a store saved by GoMLX's checkpoints after 3 steps continues in a new optimizer to the same bits
// as an uninterrupted run, tags, moments, counts and schedule included.
func TestSaveAndRestore(t *testing.T) {
	eachOptimizer(t, func(t *testing.T, name string) {
		values := mixture(name)
		cfg := setting(t, name, func(c *Config) { c.Schedule = Schedule{Kind: "linear", Steps: 8, WarmupSteps: 2} })
		whole, part := newStore(t, values...), newStore(t, values...)
		steps := func(store *mlmodel.Store, from, to int) {
			s := newStepper(t, store, mustNew(t, cfg), paths(values)...)
			for seed := from; seed < to; seed++ {
				s.step(t, gradients(values, 1, seed)...)
			}
		}
		steps(whole, 0, 6)
		steps(part, 0, 3)
		dir := t.TempDir()
		if err := must[*checkpoint.Handler](t)(checkpoint.Build(part).Dir(dir).Immediate().Done()).Save(); err != nil {
			t.Fatal(err)
		}
		restored := mlmodel.NewStore()
		must[*checkpoint.Handler](t)(checkpoint.Build(restored).Dir(dir).Immediate().Done())
		if routes := must[[]Route](t)(mustNew(t, cfg).Routes(restored)); len(routes) != len(values) {
			t.Errorf("%d routes in the restored store, want %d", len(routes), len(values))
		}
		steps(restored, 3, 6)
		forgetful := newStore(t, values...)
		for _, v := range values {
			if err := forgetful.GetVariable(v.path).SetValue(part.GetVariable(v.path).MustValue()); err != nil {
				t.Fatal(err)
			}
		}
		steps(forgetful, 3, 6)
		for _, v := range values {
			if e := relative(get(t, restored, v.path), get(t, whole, v.path)); e != 0 {
				t.Errorf("%s: %.1e from the uninterrupted run", v.path, e)
			}
			if relative(get(t, forgetful, v.path), get(t, whole, v.path)) == 0 {
				t.Errorf("%s: the same without the optimizer's state", v.path)
			}
		}
	})
}

// TestTrainerAccumulates: GoMLX's own trainer, with two half batches accumulated, takes the step of the whole batch, and
// counts one global step for it.
func TestTrainerAccumulates(t *testing.T) {
	const tol = 1e-4 // a mean of two means against one, through msign, where 1e-7 in small singular values grows
	const rows = 32
	eachOptimizer(t, func(t *testing.T, name string) {
		weights := func(parts int) (*mlmodel.Store, []float64) {
			rng := random(3, 9)
			store := newStore(t, dense("/w1", gaussian(rng, 6, 5)), dense("/w2", gaussian(rng, 4, 6)))
			x, y := gaussian(rng, rows, 5), gaussian(rng, rows, 4)
			model := func(scope *mlmodel.Scope, x *Node) *Node {
				w1, w2 := store.GetVariable("/w1").NodeValue(x), store.GetVariable("/w2").NodeValue(x)
				return MatMul(Tanh(MatMul(x, Transpose(w1, 0, 1))), Transpose(w2, 0, 1))
			}
			squares := func(labels, predictions []*Node) *Node { return ReduceAllMean(Square(Sub(labels[0], predictions[0]))) }
			o := mustNew(t, setting(t, name))
			trainer := train.NewTrainer(check.Backend(t), store, model, squares, o, nil, nil)
			if parts > 1 {
				if err := trainer.AccumulateGradients(parts); err != nil {
					t.Fatal(err)
				}
			}
			var losses []float64
			for step := range 3 * parts {
				from := step % parts * rows / parts
				to := from + rows/parts
				metrics, err := trainer.TrainStep(train.Batch{
					Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(oracle.Float32(x.Slice(from, to, 0, 5)), to-from, 5)},
					Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(oracle.Float32(y.Slice(from, to, 0, 4)), to-from, 4)},
				})
				if err != nil {
					t.Fatal(err)
				}
				losses = append(losses, float64(tensors.ToScalar[float32](metrics[0])))
			}
			if step := gomlx.GetGlobalStep(store); step != 3 {
				t.Errorf("%d parts: global step %d after 3 updates", parts, step)
			}
			return store, losses
		}
		whole, losses := weights(1)
		halves, _ := weights(2)
		for _, path := range []string{"/w1", "/w2"} {
			if e := relative(get(t, halves, path), get(t, whole, path)); !(e <= tol) {
				t.Errorf("%s: accumulated %.1e from the whole batch", path, e)
			}
		}
		if !(last(losses) < losses[0]) {
			t.Errorf("losses %v do not fall", losses)
		}
	})
}

// TestRoutes: each variable is listed in the store's order with rule, rate and state, and state is what is really kept.
func TestRoutes(t *testing.T) {
	eachOptimizer(t, func(t *testing.T, name string) {
		values := mixture(name)
		store, o := newStore(t, values...), mustNew(t, setting(t, name, func(c *Config) {
			if name == "adamw" {
				c.LoRAPlusRatio = 4
			}
		}))
		routes := must[[]Route](t)(o.Routes(store))
		var total int64
		for i, r := range routes {
			spec := values[slices.IndexFunc(values, func(v value) bool { return v.path == r.Variable })].spec
			wantRule, wantRate := name, o.cfg.LearningRate
			if other := hiddenRules[name]; other != "" && spec.Role == param.Hidden {
				wantRule = other
			}
			if isFallbackRole(spec.Role) && o.cfg.Fallback.LearningRate > 0 {
				wantRule, wantRate = "adamw", o.cfg.Fallback.LearningRate
			}
			if name == "adamw" && spec.Side == param.SideA {
				wantRate *= 4
			}
			if r.Rule != wantRule || r.LearningRate != wantRate || r.Role != spec.Role {
				t.Errorf("%+v, want rule %s at rate %g", r, wantRule, wantRate)
			}
			if i > 0 && position(store, r.Variable) < position(store, routes[i-1].Variable) {
				t.Errorf("%s out of order", r.Variable)
			}
			total += r.StateBytes
		}
		if len(routes) != len(values) {
			t.Errorf("%d routes for %d variables", len(routes), len(values))
		}
		newStepper(t, store, o, paths(values)...).step(t, gradients(values, 1)...)
		if kept := stateBytes(store); kept != total {
			t.Errorf("routes say %d bytes of state, the store has %d", total, kept)
		}
		if err := o.Clear(store.RootScope()); err != nil || stateBytes(store) != 0 {
			t.Errorf("after Clear: error %v, %d bytes of state", err, stateBytes(store))
		}
	})
}

func position(store *mlmodel.Store, path string) int {
	at := 0
	for v := range store.IterVariables() {
		if v.Path() == path {
			return at
		}
		at++
	}
	return -1
}

// stateBytes returns the size of the groups' state in a store, learning rates and counts aside.
func stateBytes(store *mlmodel.Store) (total int64) {
	for v := range store.IterVariables() {
		if strings.HasPrefix(v.Path(), Scope+"/") && v.Shape().Rank() > 0 {
			total += int64(v.Shape().Size()) * 4
		}
	}
	return total
}

// TestRateOfRestoredStore: a new optimizer sets its own rate; a rate changed while it runs stays.
func TestRateOfRestoredStore(t *testing.T) {
	values := mixture("sgd")
	store := newStore(t, values...)
	first := mustNew(t, setting(t, "sgd", func(c *Config) { c.LearningRate = 0.5 }))
	newStepper(t, store, first, paths(values)...).step(t, gradients(values, 1)...)
	second := mustNew(t, setting(t, "sgd", func(c *Config) { c.LearningRate = 0.25 }))
	s := newStepper(t, store, second, paths(values)...)
	s.step(t, gradients(values, 1)...)
	if got := second.LearningRate(store); got != 0.25 {
		t.Errorf("the rate is %g, want the new optimizer's 0.25", got)
	}
	if err := second.SetLearningRate(store, 0.125); err != nil {
		t.Fatal(err)
	}
	before := get(t, store, "/w")
	s = newStepper(t, store, second, paths(values)...) // another graph, as for a batch of another shape
	s.step(t, gradients(values, 0)...)
	if got := second.LearningRate(store); got != 0.125 {
		t.Errorf("the rate is %g, want 0.125", got)
	}
	if relative(get(t, store, "/w"), before) == 0 {
		t.Error("nothing moved")
	}
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if err := second.SetLearningRate(store, bad); err == nil {
			t.Errorf("a rate of %g was accepted", bad)
		}
	}
}

// TestSplitGroups: members are stacked in order of their paths up to the limit of elements; one larger than the limit is
// alone.
func TestSplitGroups(t *testing.T) {
	store := mlmodel.NewStore()
	rule := newMuonRule(setting(t, "muon"))
	key := groupKey{rule: rule, fanOut: 1 << 11, fanIn: 1 << 11}
	var members []member
	for i := range 9 { // 4 Mi elements each, 4 to a group
		v := store.VariableWithValue(fmt.Sprint("/v", 8-i), tensors.FromFlatDataAndDimensions(make([]float32, 1<<22), 1<<11, 1<<11))
		members = append(members, member{path: v.Path(), vars: []*mlmodel.Variable{v}})
	}
	var sizes []int
	var order []string
	for _, gr := range split(key, members) {
		sizes = append(sizes, gr.Len())
		for _, m := range gr.members {
			order = append(order, m.path)
		}
	}
	if !slices.Equal(sizes, []int{4, 4, 1}) || !slices.IsSorted(order) {
		t.Errorf("groups of %v in order %v", sizes, order)
	}
}
