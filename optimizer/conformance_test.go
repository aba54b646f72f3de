package optimizer

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
)

// What every optimizer is asked. Each test runs over Known.

// convergenceRates are learning rates at which each optimizer solves the problem of TestConverges.
var convergenceRates = map[string]float64{
	"lora-muon": 0.3, "muon": 0.1, "factor-muon": 0.1, "adamw": 0.05, "sgd": 0.02, "shampoo": 0.1, "soap": 0.05, "spectron": 1,
	"lora-rite": 0.3, "lora-rite-core": 0.3, "rprec-adamw": 0.05, "polora": 4, "smuon": 0.3, "lora-muon-ogd": 0.3,
}

// hiddenRules names the rule of hidden matrices where it is not the optimizer's own.
var hiddenRules = map[string]string{
	"lora-muon": "muon", "factor-muon": "muon", "spectron": "muon", "lora-rite": "muon", "lora-rite-core": "muon",
	"rprec-adamw": "adamw", "polora": "muon", "smuon": "muon", "lora-muon-ogd": "muon",
}

// decaysFactors holds the optimizers that decay each factor of a pair by 1 - lambda·eta; the others decay the product so.
var decaysFactors = map[string]bool{"adamw": true, "sgd": true, "spectron": true, "rprec-adamw": true}

// directionalRules holds the rules that use only the direction of their gradients.
var directionalRules = map[string]bool{
	"lora-muon": true, "muon": true, "factor-muon": true, "spectron": true, "lora-rite-core": true, "polora": true, "smuon": true,
	"lora-muon-ogd": true,
}

// directional reports whether an optimizer moves variables of a role by the direction of their gradients only.
func directional(name string, role param.Role) bool {
	if other := hiddenRules[name]; other != "" && role == param.Hidden {
		name = other
	}
	return directionalRules[name] && !isFallbackRole(role)
}

// takesPairs reports whether the optimizer has a rule for low-rank pairs.
func takesPairs(name string) bool {
	info, err := Describe(name)
	return err == nil && info.Pairs
}

// mixture returns variables of every role that an optimizer takes, pairs two of one shape.
func mixture(name string) []value {
	rng := random(21, 4)
	values := []value{
		dense("/w", gaussian(rng, 12, 8)),
		{path: "/embedding", x: gaussian(rng, 9, 4), spec: param.Spec{Role: param.Embedding}},
		{path: "/head", x: gaussian(rng, 9, 4), spec: param.Spec{Role: param.Head}},
		{path: "/bias", x: gaussian(rng, 1, 7), spec: param.Spec{Role: param.Vector}, vector: true},
	}
	if !takesPairs(name) {
		return append(values, dense("/u", gaussian(rng, 12, 8)))
	}
	for _, layer := range []string{"l1", "l2"} {
		values = append(values, pair(layer, gaussian(rng, 10, 3), gaussian(rng, 6, 3), 2)...)
	}
	return values
}

// gradients returns random gradients of scale c for the values; the seed makes them differ from step to step.
func gradients(values []value, c float64, seed ...int) []*mat.Dense {
	rng := random(len(seed), append(seed, 0)[0])
	var out []*mat.Dense
	for _, v := range values {
		rows, cols := v.x.Dims()
		out = append(out, scaled(c, gaussian(rng, rows, cols)))
	}
	return out
}

func paths(values []value) (out []string) {
	for _, v := range values {
		out = append(out, v.path)
	}
	return out
}

// eachOptimizer runs a test for every optimizer.
func eachOptimizer(t *testing.T, do func(t *testing.T, name string)) {
	for _, info := range Known() {
		t.Run(info.Name, func(t *testing.T) { do(t, info.Name) })
	}
}

// TestConverges: every variable moves to its target, for pairs the product A Bᵀ to a matrix of their rank.
func TestConverges(t *testing.T) {
	const steps = 300
	eachOptimizer(t, func(t *testing.T, name string) {
		values := mixture(name)
		store := newStore(t, values...)
		cfg := setting(t, name, noDecay, func(c *Config) {
			c.LearningRate, c.Schedule = convergenceRates[name], Schedule{Kind: "linear", Steps: steps}
			if c.Fallback.LearningRate > 0 {
				c.Fallback.LearningRate = 0.05
			}
		})
		o := mustNew(t, cfg)
		exec, err := mlmodel.NewExec(check.Backend(t), store, func(scope *mlmodel.Scope, unit *Node) *Node {
			loss := distance(t, store, values, unit)
			o.UpdateGraph(scope, unit.Graph(), loss)
			return loss
		})
		if err != nil {
			t.Fatal(err)
		}
		defer exec.Finalize()
		var losses []float64
		for range steps {
			out, err := exec.Call(float32(1))
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, float64(tensors.ToScalar[float32](out[0])))
		}
		t.Logf("loss %.3g to %.3g", losses[0], last(losses))
		if !(last(losses) < 1e-3*losses[0]) {
			t.Errorf("loss from %.3g to %.3g only", losses[0], last(losses))
		}
	})
}

// distance builds the sum of the squared distances of the values from random targets.
func distance(t *testing.T, store *mlmodel.Store, values []value, unit *Node) *Node {
	rng := random(77, 0)
	total := ScalarZero(unit.Graph(), dtypes.Float32)
	addTo := func(x *Node, target *mat.Dense) {
		want := ConstTensor(unit.Graph(), tensors.FromFlatDataAndDimensions(oracle.Float32(target), x.Shape().Dimensions...))
		total = Add(total, ReduceAllSum(Square(Sub(x, want))))
	}
	for i, v := range values {
		x := store.GetVariable(v.path).NodeValue(unit)
		rows, cols := v.x.Dims()
		switch v.spec.Side {
		case "":
			addTo(x, gaussian(rng, rows, cols))
		case param.SideB:
			a := store.GetVariable(values[i-1].path).NodeValue(unit)
			out, _ := values[i-1].x.Dims()
			addTo(MatMul(a, Transpose(x, 0, 1)), mul(gaussian(rng, out, cols), gaussian(rng, rows, cols).T()))
		}
	}
	return total
}

// TestKeepsDType: bfloat16 variables stay bfloat16 and take the float32 step, rounded.
func TestKeepsDType(t *testing.T) {
	const tol = 1.0 / 256 // half a unit in the last of 8 bits
	eachOptimizer(t, func(t *testing.T, name string) {
		values := mixture(name)
		for i := range values {
			values[i].x.Apply(func(_, _ int, v float64) float64 { return math.Round(v*16) / 16 }, values[i].x) // exact in 8 bits
		}
		cfg, grads := setting(t, name), gradients(values, 1)
		want := after(t, cfg, values, grads)
		store := newStore(t, values...)
		for _, v := range values {
			toBFloat16(t, store, v)
		}
		newStepper(t, store, mustNew(t, cfg), paths(values)...).step(t, grads...)
		for i, v := range values {
			got := store.GetVariable(v.path)
			if got.DType() != dtypes.BFloat16 || got.MustValue().DType() != dtypes.BFloat16 {
				t.Fatalf("%s became %s", v.path, got.DType())
			}
			rows, cols := v.x.Dims()
			wide, err := CallOnce(check.Backend(t), func(x *Node) *Node { return ConvertDType(x, dtypes.Float32) }, got.MustValue())
			if err != nil {
				t.Fatal(err)
			}
			x := must[*mat.Dense](t)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](wide), rows, cols))
			if e := relative(x, want[i]); !(e <= tol) {
				t.Errorf("%s is %.1e from the float32 step", v.path, e)
			}
			if relative(x, v.x) == 0 && relative(want[i], v.x) > 2*tol {
				t.Errorf("%s did not move", v.path)
			}
		}
	})
}

// toBFloat16 replaces a variable by one of the same path and value in bfloat16.
func toBFloat16(t *testing.T, store *mlmodel.Store, v value) {
	t.Helper()
	half, err := CallOnce(check.Backend(t), func(x *Node) *Node { return ConvertDType(x, dtypes.BFloat16) },
		store.GetVariable(v.path).MustValue())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteVariable(v.path); err != nil {
		t.Fatal(err)
	}
	if err := param.Tag(store, store.VariableWithValue(v.path, half), v.spec); err != nil {
		t.Fatal(err)
	}
}

// TestCompilesOnce: later steps, a decaying schedule and a changed learning rate take the graph of the first step.
func TestCompilesOnce(t *testing.T) {
	eachOptimizer(t, func(t *testing.T, name string) {
		values := mixture(name)
		store := newStore(t, values...)
		o := mustNew(t, setting(t, name, func(c *Config) { c.Schedule = Schedule{Kind: "cosine", Steps: 9} }))
		s := newStepper(t, store, o, paths(values)...)
		s.exec.SetMaxCache(1) // a second graph would be an error
		for seed := range 3 {
			s.step(t, gradients(values, 1, seed)...)
		}
		if err := o.SetLearningRate(store, 0.5*o.LearningRate(store)); err != nil {
			t.Fatal(err)
		}
		s.step(t, gradients(values, 1, 4)...)
		if s.built != 1 {
			t.Errorf("the graph was built %d times", s.built)
		}
	})
}

// TestScheduleApplies: at a quarter of the rate the first step is a quarter as long, whatever sets the rate.
func TestScheduleApplies(t *testing.T) {
	const tol = 5e-4 // float32 differences of values of about one, steps of about 1e-2 (1e-3 of lora-rite: 1.4e-4)
	eachOptimizer(t, func(t *testing.T, name string) {
		values := mixture(name)
		grads := gradients(values, 1)
		full := setting(t, name, noDecay, func(c *Config) { c.LearningRate, c.Fallback.LearningRate = 0.1, 0.1 })
		if must[Info](t)(Describe(name)).FallbackOptional {
			full.Fallback.LearningRate = 0
		}
		warm, low := full, full
		warm.Schedule.WarmupSteps = 4
		low.LearningRate, low.Fallback.LearningRate = full.LearningRate/4, full.Fallback.LearningRate/4
		want, warmed, lowered := after(t, full, values, grads), after(t, warm, values, grads), after(t, low, values, grads)
		for i, v := range values {
			step := sub(want[i], v.x)
			if e := relative(scaled(4, sub(warmed[i], v.x)), step); !(e <= tol) {
				t.Errorf("%s: a warm-up of 4 steps begins %.1e from a quarter", v.path, e)
			}
			if e := relative(warmed[i], lowered[i]); !(e <= 1e-6) {
				t.Errorf("%s: a quarter by schedule and by rate differ by %.1e", v.path, e)
			}
			if mat.Norm(step, 2) == 0 {
				t.Errorf("%s does not move", v.path)
			}
		}
	})
}

// TestUnknownRefused: a variable that nobody described has no rule and is named; adamw and sgd take it.
func TestUnknownRefused(t *testing.T) {
	eachOptimizer(t, func(t *testing.T, name string) {
		values := append(mixture(name), value{path: "/mystery/w", x: gaussian(random(1, 1), 3, 2)})
		store, o := newStore(t, values...), mustNew(t, setting(t, name))
		takesUntagged := name == "adamw" || name == "sgd"
		_, routeErr := o.Routes(store)
		stepErr := newStepper(t, store, o, paths(values)...).try(gradients(values, 1)...)
		for _, err := range []error{routeErr, stepErr} {
			switch {
			case takesUntagged && err != nil:
				t.Errorf("refused: %v", err)
			case !takesUntagged && (err == nil || !strings.Contains(err.Error(), "/mystery/w [3 2]") || !strings.Contains(err.Error(), "param.Tag")):
				t.Errorf("error %v, want one that names the variable", err)
			}
		}
	})
}

// TestStackingIsSeparate: variables of one shape updated together get what each gets alone.
func TestStackingIsSeparate(t *testing.T) {
	const tol = 2e-6 // products of other sizes add in another order
	eachOptimizer(t, func(t *testing.T, name string) {
		rng := random(31, 1)
		layers := make([][]value, 3)
		var all []value
		for i := range layers {
			layers[i] = pair(fmt.Sprint("l", i), gaussian(rng, 10, 3), gaussian(rng, 6, 3), 2)
			if !takesPairs(name) {
				layers[i] = []value{dense(fmt.Sprint("/w", i), gaussian(rng, 12, 8))}
			}
			all = append(all, layers[i]...)
		}
		first, second := gradients(all, 1, 1), gradients(all, 1, 2)
		cfg := setting(t, name)
		together := after(t, cfg, all, first, second)
		at := 0
		for _, layer := range layers {
			end := at + len(layer)
			for i, alone := range after(t, cfg, layer, first[at:end], second[at:end]) {
				if e := relative(together[at+i], alone); !(e <= tol) {
					t.Errorf("%s: %.1e from its own step", layer[i].path, e)
				}
			}
			at = end
		}
		store := newStore(t, all...)
		if groups := must[[]*Group](t)(mustNew(t, cfg).groups(store, trainable(store.IterVariables()))); len(groups) != 1 {
			t.Errorf("%d groups for variables of one shape, want 1", len(groups))
		}
	})
}
