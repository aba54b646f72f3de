package optimizer

import (
	"math"
	"slices"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// invariantRules says which optimizers' steps are the same in every gauge.
var invariantRules = map[string]bool{
	"lora-muon": true, "lora-rite-core": true, "lora-rite": true, "smuon": true, "lora-muon-ogd": true,
	"factor-muon": false, "spectron": false, "adamw": false, "sgd": false, "shampoo": false, "soap": false, "rprec-adamw": false, "polora": false,
}

// checked trains a small network and returns the drifts of its layers before the given steps, from 1, and the network. With
// checks false it only trains.
func checked(t *testing.T, o *Optimizer, kind string, checks bool, steps ...int) (out [][]PairDrift, n *net) {
	t.Helper()
	if !checks {
		return checkedBy(t, o, kind, nil, steps...)
	}
	return checkedBy(t, o, kind, func(*Certifier) {}, steps...)
}

// checkedBy is checked by a certifier that change has changed; it only trains for nil.
func checkedBy(t *testing.T, o *Optimizer, kind string, change func(*Certifier), steps ...int) (out [][]PairDrift, n *net) {
	t.Helper()
	n = newNet(t, start{rank: 8, s: 2, c: 1, kind: kind})
	var vars []*mlmodel.Variable
	for _, path := range []string{"/adapter/w1/A", "/adapter/w1/B", "/adapter/w2/A", "/adapter/w2/B"} {
		vars = append(vars, n.store.GetVariable(path))
	}
	exec := func(build func(scope *mlmodel.Scope, in []*Node) []*Node) *mlmodel.Exec {
		e := must[*mlmodel.Exec](t)(mlmodel.NewExec(check.Backend(t), n.store, build))
		t.Cleanup(e.Finalize)
		return e
	}
	gradients := exec(func(_ *mlmodel.Scope, in []*Node) []*Node {
		var at []*Node
		for _, v := range vars {
			at = append(at, v.NodeValue(in[0]))
		}
		return Gradient(n.loss(in[0], in[1]), at...)
	})
	update := exec(func(scope *mlmodel.Scope, in []*Node) []*Node {
		var updates []VarGrad
		for i, v := range vars {
			updates = append(updates, VarGrad{v, in[i]})
		}
		o.Apply(scope, in[0].Graph(), updates)
		return in[:1]
	})
	c := must[*Certifier](t)(o.NewCertifier(check.Backend(t), n.store, vars, DefaultRegauging))
	t.Cleanup(c.Close)
	if change != nil {
		change(c)
	}
	for step := 1; step <= slices.Max(steps); step++ {
		grads := must[[]*tensors.Tensor](t)(gradients.Call(n.x, n.y))
		if change != nil && slices.Contains(steps, step) {
			out = append(out, must[[]PairDrift](t)(c.Check(1, grads)))
		}
		var args []any
		for _, g := range grads {
			args = append(args, g)
		}
		if _, err := update.Call(args...); err != nil {
			t.Fatal(err)
		}
	}
	return out, n
}

// TestCertify: the check tells rules that are invariant from those that are not, from the first step on, also while the guard
// acts, from a start with a zero factor and from a balanced one.
func TestCertify(t *testing.T) {
	// In float32 the worst of the invariant ones was 1.2e-5, in float64 2.4e-6: the ridge of roots, and polar factors of 8 steps.
	const tol, tolWide, apart = 1e-4, 1e-5, 0.3
	eachOptimizer(t, func(t *testing.T, name string) {
		if !takesPairs(name) {
			return
		}
		invariant, known := invariantRules[name]
		if !known {
			t.Fatal("say in invariantRules whether its steps depend on the gauge")
		}
		for _, kind := range []string{"zero", "balanced"} {
			drifts, _ := checked(t, mustNew(t, setting(t, name)), kind, true, 1, 2, 3, 8)
			worst, wide, least := 0.0, 0.0, math.Inf(1)
			for _, d := range slices.Concat(drifts...) {
				worst, wide, least = max(worst, d.Worst()), max(wide, d.WorstWide()), min(least, d.General)
				if !(d.Step > 0) {
					t.Errorf("%s: layer %s takes a step of %g", kind, d.Layer, d.Step)
				}
			}
			t.Logf("%s: worst drift %.1e, in float64 %.1e; least general drift %.1e", kind, worst, wide, least)
			if invariant && !(worst <= tol && wide <= tolWide) {
				t.Errorf("%s: worst drift %.1e, in float64 %.1e; want at most %g and %g", kind, worst, wide, tol, tolWide)
			}
			if !invariant && !(least > apart) {
				t.Errorf("%s: a step drifts by %.1e only", kind, least)
			}
		}
	})
}

// TestCertifyChangesNothing: factors, state and step counts are bit for bit those of a run without checks.
func TestCertifyChangesNothing(t *testing.T) {
	for _, name := range []string{"lora-muon", "adamw", "lora-rite"} {
		cfg := setting(t, name, func(c *Config) {
			c.Schedule = Schedule{Kind: "linear", Steps: 9}
			if name == "lora-muon" {
				c.RebalanceEvery, c.SpectralBudget = 2, 0.5
			}
		})
		plain, with := map[string]string{}, map[string]string{}
		for into, checks := range map[*map[string]string]bool{&plain: false, &with: true} {
			_, n := checked(t, mustNew(t, cfg), "zero", checks, 1, 2, 5)
			for v := range n.store.IterVariables() {
				if err := v.MustValue().ConstBytes(func(data []byte) { (*into)[v.Path()] = string(data) }); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(with) != len(plain) {
			t.Errorf("%s: %d variables, without checks %d", name, len(with), len(plain))
		}
		for path, value := range plain {
			if with[path] != value {
				t.Errorf("%s: %s is another one after a check", name, path)
			}
		}
	}
}

// TestCertifyOracle holds figures against ones made in float64 by SVD, with dense products: of factor-muon, on pairs of two
// shapes and scales, and of a step that was really taken.
func TestCertifyOracle(t *testing.T) {
	const tol = 1e-4 // exact steps; the gradients are rounded
	const eta = 0.3
	rng := random(2, 7)
	var values []value
	values = append(values, pair("one", gaussian(rng, 9, 3), gaussian(rng, 7, 3), 2)...)
	values = append(values, pair("two", gaussian(rng, 6, 2), gaussian(rng, 8, 2), 0.5)...)
	grads := gradients(values, 1, 3)
	cfg := setting(t, "factor-muon", noDecay, func(c *Config) { c.LearningRate, c.Scale, c.Exact = eta, "none", true })
	drifts := certifyOnce(t, cfg, values, grads, 1)
	moved := after(t, cfg, values, grads)
	change := func(a, b, gA, gB *mat.Dense) (dA, dB *mat.Dense) {
		turn := func(x *mat.Dense) *mat.Dense { return scaled(-eta, must[*mat.Dense](t)(oracle.Msign(x))) }
		return turn(gA), turn(gB)
	}
	tangent := func(a, b, dA, dB *mat.Dense) *mat.Dense { return add(mul(dA, b.T()), mul(a, dB.T())) }
	whole := func(a, b, dA, dB *mat.Dense) *mat.Dense { return sub(mul(add(a, dA), add(b, dB).T()), mul(a, b.T())) }
	for i, layer := range []string{"one", "two"} {
		a, b, gA, gB := values[2*i].x, values[2*i+1].x, grads[2*i], grads[2*i+1]
		dA, dB := change(a, b, gA, gB)
		at := slices.IndexFunc(drifts, func(d PairDrift) bool { return d.Layer == layer })
		d := drifts[at]
		_, rank := a.Dims()
		for name, c := range map[string]struct {
			gauge func(int) (*mat.Dense, *mat.Dense)
			of    func(a, b, dA, dB *mat.Dense) *mat.Dense
			got   float64
		}{"general": {DefaultRegauging.general, tangent, d.General}, "scalar": {DefaultRegauging.scalar, whole, d.Scalar}} {
			g, inverse := c.gauge(rank)
			otherA, otherB := mul(a, g), mul(b, inverse.T())
			oA, oB := change(otherA, otherB, mul(gA, inverse.T()), mul(gB, g))
			if want := relative(c.of(otherA, otherB, oA, oB), c.of(a, b, dA, dB)); !(math.Abs(c.got-want) <= tol*want) || want < 0.1 {
				t.Errorf("%s, %s gauge: drift %g, want %g", layer, name, c.got, want)
			}
		}
		s := values[2*i].spec.S()
		step := s * mat.Norm(tangent(a, b, sub(moved[2*i], a), sub(moved[2*i+1], b)), 2)
		if !(math.Abs(d.Step-step) <= tol*step) {
			t.Errorf("%s: a step of %g, took one of %g", layer, d.Step, step)
		}
	}
}

// certifyOnce checks the first step from the given gradients.
func certifyOnce(t *testing.T, cfg Config, values []value, grads []*mat.Dense, divisor float64) []PairDrift {
	t.Helper()
	store := newStore(t, values...)
	var vars []*mlmodel.Variable
	var tensorsOf []*tensors.Tensor
	for i, v := range values {
		vars = append(vars, store.GetVariable(v.path))
		tensorsOf = append(tensorsOf, tensors.FromFlatDataAndDimensions(oracle.Float32(grads[i]), vars[i].Shape().Dimensions...))
	}
	c := must[*Certifier](t)(mustNew(t, cfg).NewCertifier(check.Backend(t), store, vars, DefaultRegauging))
	defer c.Close()
	return must[[]PairDrift](t)(c.Check(divisor, tensorsOf))
}

// TestCertifyMixture: variables of all roles may be given, with clipping and a divisor; pairs are what is reported.
func TestCertifyMixture(t *testing.T) {
	for _, name := range []string{"lora-muon", "sgd"} {
		values := mixture(name)
		cfg := setting(t, name, func(c *Config) { c.ClipNorm = 0.1 })
		drifts := certifyOnce(t, cfg, values, gradients(values, 1, 1), 8)
		if len(drifts) != 2 || drifts[0].Layer != "l1" || drifts[1].Layer != "l2" {
			t.Fatalf("%s: %+v", name, drifts)
		}
		// The clip takes the divisor out again, and with it the size of the gradient.
		for i, d := range certifyOnce(t, cfg, values, gradients(values, 1, 1), 1) {
			if !(math.Abs(d.Step/drifts[i].Step-1) <= 1e-5) || d.Step == 0 {
				t.Errorf("%s: a clipped step of %g, divided one of %g", name, d.Step, drifts[i].Step)
			}
		}
	}
	plain := certifyOnce(t, setting(t, "sgd"), mixture("sgd"), gradients(mixture("sgd"), 1, 1), 1)
	divided := certifyOnce(t, setting(t, "sgd"), mixture("sgd"), gradients(mixture("sgd"), 1, 1), 8)
	if got := plain[0].Step / divided[0].Step; !(math.Abs(got-8) <= 1e-4) {
		t.Errorf("gradients over 8 give a step of 1/%g", got)
	}
}

// TestCertifyCarries: moments that are not carried make lora-muon drift; without a law it is compared from fresh state, and says
// so.
func TestCertifyCarries(t *testing.T) {
	with := func(laws func(Rule) func(string) carry) []PairDrift {
		drifts, _ := checkedBy(t, mustNew(t, setting(t, "lora-muon")), "balanced", func(c *Certifier) { c.laws = laws }, 1, 3)
		return []PairDrift{drifts[0][0], drifts[1][0]}
	}
	d := with(func(Rule) func(string) carry { return func(string) carry { return carryKept } })
	if !(d[0].General < 1e-4) || !(d[1].General > 0.1) {
		t.Errorf("careless: drift %g in the first step, %g in the third", d[0].General, d[1].General)
	}
	if d := with(func(Rule) func(string) carry { return nil }); !(d[1].General < 1e-4) {
		t.Errorf("from fresh state: drift %g in the third step", d[1].General)
	}
	for name, want := range map[string]string{
		"shampoo": "shampoo: compared from fresh state", "soap": "soap: compared from fresh state", "lora-muon": "",
		"adamw": "adamw: second moments are carried by squared entries of G", "spectron": "",
	} {
		values := mixture(name)
		store := newStore(t, values...)
		o := mustNew(t, setting(t, name))
		c := must[*Certifier](t)(o.NewCertifier(check.Backend(t), store, trainable(store.IterVariables()), DefaultRegauging))
		defer c.Close()
		if notes := strings.Join(c.Notes(), "; "); !strings.Contains(notes, want) || want == "" && notes != "" {
			t.Errorf("%s: notes %q, want %q", name, notes, want)
		}
	}
}

// TestCertifyErrors: what cannot be checked is refused.
func TestCertifyErrors(t *testing.T) {
	refused := func(want, name string, how Regauging, values ...value) {
		t.Helper()
		store := newStore(t, values...)
		_, err := mustNew(t, setting(t, name)).NewCertifier(check.Backend(t), store, trainable(store.IterVariables()), how)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	rng := random(1, 1)
	one := pair("l", gaussian(rng, 4, 2), gaussian(rng, 3, 2), 1)
	refused("no low-rank pairs", "muon", DefaultRegauging, dense("/w", gaussian(rng, 4, 3)))
	refused("no trainable factor B", "sgd", DefaultRegauging, one[0])
	refused("condition number", "lora-muon", Regauging{Condition: 0.5, Scalar: 1}, one...)
	refused("scalar gauge", "lora-muon", Regauging{Condition: 2}, one...)
	store := newStore(t, one...)
	c := must[*Certifier](t)(mustNew(t, setting(t, "lora-muon", noDecay)).NewCertifier(check.Backend(t), store, trainable(store.IterVariables()), DefaultRegauging))
	defer c.Close()
	if _, err := c.Check(1, nil); err == nil || !strings.Contains(err.Error(), "0 gradients for 2 variables") {
		t.Errorf("error %v", err)
	}
	broken := []*tensors.Tensor{tensors.FromFlatDataAndDimensions(make([]float32, 8), 4, 2), tensors.FromFlatDataAndDimensions(make([]float32, 6), 3, 2)}
	if drifts, err := c.Check(1, broken); err != nil || drifts[0].Worst() != 0 || drifts[0].Step != 0 {
		t.Errorf("no gradient: %+v, %v", drifts, err)
	}
	broken[0] = tensors.FromFlatDataAndDimensions([]float32{float32(math.NaN()), 0, 0, 0, 0, 0, 0, 0}, 4, 2)
	if _, err := c.Check(1, broken); err == nil || !strings.Contains(err.Error(), "the step of layer l is not finite") {
		t.Errorf("error %v", err)
	}
}

// TestRegauging: G has the condition number that was asked for, and its inverse is one.
func TestRegauging(t *testing.T) {
	for _, rank := range []int{1, 2, 16} {
		g, inverse := Regauging{Condition: 30, Scalar: 2, Seed: 4}.general(rank)
		values := must[[]float64](t)(oracle.SingularValues(g))
		want := 30.0
		if rank == 1 {
			want = 1
		}
		unit := mul(g, inverse)
		for i := range rank {
			unit.Set(i, i, unit.At(i, i)-1)
		}
		if got := values[0] / values[rank-1]; !(math.Abs(got/want-1) <= 1e-9) || !(mat.Norm(unit, 2) <= 1e-12) {
			t.Errorf("rank %d: condition number %g, want %g; G G⁻¹ is %g from the identity", rank, got, want, mat.Norm(unit, 2))
		}
	}
}
