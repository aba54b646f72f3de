package optimizer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// named are matrices by the names of a TensorStep.
type named map[string]*mat.Dense

func (n named) tensors() map[string]*tensors.Tensor {
	out := map[string]*tensors.Tensor{}
	for name, x := range n {
		rows, cols := x.Dims()
		out[name] = tensors.FromFlatDataAndDimensions(oracle.Float32(x), rows, cols)
	}
	return out
}

// run takes the step, and returns its matrices.
func (t TensorStep) run(tb testing.TB, in named) named {
	tb.Helper()
	result := must[map[string]*tensors.Tensor](tb)(t.Run(check.Backend(tb), in.tensors()))
	out := named{}
	for name, x := range result {
		dims := x.Shape().Dimensions
		if len(dims) != 2 {
			dims = []int{1, x.Size()}
		}
		out[name] = must[*mat.Dense](tb)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](x), dims[0], dims[1]))
	}
	return out
}

// pairTensors returns a pair of the given condition number of its factors, with gradients and moments of random G.
func pairTensors(t testing.TB, cond float64) named {
	const m, n, r = 40, 30, 6
	a := rounded(must[*mat.Dense](t)(oracle.RandomMatrix(1, m, r, cond)))
	b := rounded(must[*mat.Dense](t)(oracle.RandomMatrix(2, n, r, cond)))
	rng := random(5, 5)
	g, h := gaussian(rng, m, n), gaussian(rng, m, n)
	return named{
		"A": a, "B": b, "grad_A": rounded(mul(g, b)), "grad_B": rounded(mul(g.T(), a)), "m_A": rounded(mul(h, b)), "m_B": rounded(mul(h.T(), a)),
	}
}

// exactStepTol is for the change of each parameter in an exact step, against the SVD: the results are rounded to float32,
// 6e-8 of the parameter, of which the change is a tenth or more. The worst is 4e-6, of a second moment.
const exactStepTol = 1e-5

// TestTensorStepOracle holds exact steps to float64 references, factors of condition number up to 1e5 included.
func TestTensorStepOracle(t *testing.T) {
	const eta, beta, lambda, count = 0.5, 0.9, 0.1, 7
	exact := func(t *testing.T, name string) TensorStep {
		return TensorStep{Count: count, Config: setting(t, name, func(c *Config) {
			c.Exact, c.Guard, c.Scale = true, false, "none"
			c.LearningRate, c.Momentum, c.WeightDecay = eta, beta, lambda
		})}
	}
	compare := func(t *testing.T, label string, got, before, want named) {
		t.Helper()
		for name := range want {
			e := relative(sub(got[name], before.get(name, want[name])), sub(want[name], before.get(name, want[name])))
			t.Logf("%s: %s changes within %.1e", label, name, e)
			if !(e <= exactStepTol) {
				t.Errorf("%s: %s changes %.1e from the oracle, want %g", label, name, e, exactStepTol)
			}
		}
	}
	polar := func(x *mat.Dense) *mat.Dense { return must[*mat.Dense](t)(oracle.Msign(x)) }
	average := func(m, g *mat.Dense) *mat.Dense { return add(scaled(beta, m), scaled(1-beta, g)) }
	for i, cond := range []float64{1, 1e2, 1e3, 1e5, 1e5} {
		in := pairTensors(t, cond)
		if i == 4 { // moments that no gradient of these factors has
			in["m_A"], in["m_B"] = gaussian(random(1, 9), 40, 6), gaussian(random(2, 9), 30, 6)
		}
		for _, s := range []float64{1, 2.5} {
			step, label := exact(t, "lora-muon"), fmt.Sprintf("condition %g, s %g", cond, s)
			step.S = s
			ref := oracle.LoRAMuon{LearningRate: eta, Momentum: beta, WeightDecay: lambda, S: s}
			next, _, _, err := ref.Step(oracle.Pair{A: in["A"], B: in["B"], MomentA: in["m_A"], MomentB: in["m_B"]}, in["grad_A"], in["grad_B"])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "lora-muon, "+label, step.run(t, in), in, named{"A": next.A, "B": next.B, "m_A": next.MomentA, "m_B": next.MomentB})

			step = exact(t, "spectron")
			step.S = s
			after, err := oracle.Spectron{LearningRate: eta, Momentum: beta, WeightDecay: lambda, S: s}.Step(
				oracle.Pair{A: in["A"], B: in["B"], MomentA: in["m_A"], MomentB: in["m_B"]}, in["grad_A"], in["grad_B"])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "spectron, "+label, step.run(t, in), in, named{"A": after.A, "B": after.B, "m_A": after.MomentA, "m_B": after.MomentB})
		}
		mA, mB := average(in["m_A"], in["grad_A"]), average(in["m_B"], in["grad_B"])
		k := math.Sqrt(1 - lambda*eta)
		compare(t, fmt.Sprintf("factor-muon, condition %g", cond), exact(t, "factor-muon").run(t, in), in, named{
			"A": sub(scaled(k, in["A"]), scaled(eta, polar(mA))), "B": sub(scaled(k, in["B"]), scaled(eta, polar(mB))), "m_A": mA, "m_B": mB,
		})
	}

	rng := random(6, 6)
	in := named{"W": gaussian(rng, 20, 30), "grad_W": gaussian(rng, 20, 30), "m_W": gaussian(rng, 20, 30)}
	m := average(in["m_W"], in["grad_W"])
	compare(t, "muon", exact(t, "muon").run(t, in), in, named{"W": sub(scaled(1-lambda*eta, in["W"]), scaled(eta, polar(m))), "m_W": m})
	heavy := add(scaled(beta, in["m_W"]), in["grad_W"])
	compare(t, "sgd", exact(t, "sgd").run(t, in), in, named{"W": sub(scaled(1-lambda*eta, in["W"]), scaled(eta, heavy)), "m_W": heavy})

	pair := pairTensors(t, 10)
	adam := exact(t, "adamw")
	adam.Config.Beta2, adam.Config.Epsilon = 0.99, 1e-8
	rules := oracle.Adam{LearningRate: eta, Beta1: beta, Beta2: 0.99, Epsilon: 1e-8, WeightDecay: lambda}
	pair["v_A"], pair["v_B"] = squares(pair["m_A"]), squares(pair["m_B"])
	want := named{}
	for _, name := range []string{"A", "B"} {
		direction, moments, err := rules.Direction(oracle.Moments{M: pair["m_"+name], V: pair["v_"+name]}, pair["grad_"+name], count)
		if err != nil {
			t.Fatal(err)
		}
		want[name], want["m_"+name], want["v_"+name] = rules.Apply(pair[name], direction), moments.M, moments.V
	}
	compare(t, "adamw", adam.run(t, pair), pair, want)
}

// get returns a matrix, zero of the shape of like if it is missing.
func (n named) get(name string, like *mat.Dense) *mat.Dense {
	if n[name] != nil {
		return n[name]
	}
	rows, cols := like.Dims()
	return mat.NewDense(rows, cols, nil)
}

// squares returns x² + 0.1, elementwise, as float32 holds it.
func squares(x *mat.Dense) *mat.Dense {
	out := mat.DenseCopyOf(x)
	out.Apply(func(_, _ int, v float64) float64 { return v*v + 0.1 }, out)
	return rounded(out)
}

// TestTensorStepContinues: two steps by name, the state of the first handed to the second, are two steps of a training. So
// every state array of every optimizer has a name, comes back, and goes where it belongs.
func TestTensorStepContinues(t *testing.T) {
	const tol = 1e-5 // of the change over two steps; products of other sizes add in another order
	eachOptimizer(t, func(t *testing.T, name string) {
		rng := random(8, 2)
		values := []value{dense("/W", gaussian(rng, 12, 8))}
		names := []string{"W"}
		if info := must[Info](t)(Describe(name)); info.Pairs {
			values, names = pair("l", gaussian(rng, 10, 3), gaussian(rng, 6, 3), 2), []string{"A", "B"}
		}
		cfg := setting(t, name, func(c *Config) { c.LearningRate, c.Momentum = 0.05, 0.5 })
		first, second := gradients(values, 1, 1), gradients(values, 1, 2)
		want := after(t, cfg, values, first, second)
		in := named{}
		for i, name := range names {
			in[name], in["grad_"+name] = values[i].x, first[i]
		}
		middle := TensorStep{Config: cfg, Count: 1, S: 2}.Run
		state := must[map[string]*tensors.Tensor](t)(middle(check.Backend(t), in.tensors()))
		if len(state) <= 2*len(names) {
			t.Errorf("no state came back: %s", list(state))
		}
		for i, name := range names {
			state["grad_"+name] = named{"g": second[i]}.tensors()["g"]
		}
		end := must[map[string]*tensors.Tensor](t)(TensorStep{Config: cfg, Count: 2, S: 2}.Run(check.Backend(t), state))
		forgetful := state
		for key := range state {
			if !slices.Contains(names, key) && !strings.HasPrefix(key, "grad_") {
				delete(forgetful, key)
			}
		}
		without := must[map[string]*tensors.Tensor](t)(TensorStep{Config: cfg, Count: 2, S: 2}.Run(check.Backend(t), forgetful))
		matters := false
		for i, name := range names {
			rows, cols := values[i].x.Dims()
			x := must[*mat.Dense](t)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](end[name]), rows, cols))
			if e := relative(sub(x, values[i].x), sub(want[i], values[i].x)); !(e <= tol) {
				t.Errorf("%s: %.1e from two steps of a training", name, e)
			}
			y := must[*mat.Dense](t)(oracle.FromFloat32(tensors.MustCopyFlatData[float32](without[name]), rows, cols))
			matters = matters || relative(sub(y, values[i].x), sub(want[i], values[i].x)) > 100*tol
		}
		if !matters {
			t.Error("the second step is the same without the first one's state, so that this test shows nothing")
		}
	})
}

// TestTensorStepZeroFactor: where a factor is zero the other one does not move, also with a moment from before.
func TestTensorStepZeroFactor(t *testing.T) {
	for _, name := range []string{"lora-muon", "lora-rite", "lora-rite-core", "polora", "rprec-adamw", "smuon"} {
		for _, exact := range []bool{false, true} {
			for _, zero := range []string{"A", "B"} {
				in := pairTensors(t, 10)
				other := map[string]string{"A": "B", "B": "A"}[zero]
				in[zero].Zero()
				in["grad_"+other].Zero()
				cfg := setting(t, name, noDecay, func(c *Config) {
					c.Exact, c.LearningRate = exact, 0.1
					c.Guard = c.Guard && !exact
				})
				out := TensorStep{Config: cfg, Count: 2}.run(t, in)
				if !mat.Equal(out[other], in[other]) {
					t.Errorf("%s, exact %v, %s = 0: %s moves by %g", name, exact, zero, other, mat.Norm(sub(out[other], in[other]), 2))
				}
				if mat.Norm(out[zero], 2) == 0 {
					t.Errorf("%s, exact %v: %s stays zero", name, exact, zero)
				}
			}
		}
	}
}

// TestTensorStepLeavesInput: what goes in is not changed, gradients come out as they went in.
func TestTensorStepLeavesInput(t *testing.T) {
	in := pairTensors(t, 10)
	given := in.tensors()
	out := must[map[string]*tensors.Tensor](t)(TensorStep{Config: setting(t, "lora-muon"), Count: 1}.Run(check.Backend(t), given))
	for name, x := range in {
		check.Close(t, name, tensors.MustCopyFlatData[float32](given[name]), oracle.Float32(x), 0)
		if strings.HasPrefix(name, "grad_") {
			check.Close(t, name, tensors.MustCopyFlatData[float32](out[name]), oracle.Float32(x), 0)
		}
	}
}

// TestTensorStepRefuses: one line that names the optimizer and every tensor that is wrong.
func TestTensorStepRefuses(t *testing.T) {
	x := func(m, n int) *mat.Dense { return gaussian(random(m, n), m, n) }
	with := func(v float64) *mat.Dense {
		y := x(4, 2)
		y.Set(1, 0, v)
		return y
	}
	for _, c := range []struct {
		name  string
		step  TensorStep
		in    named
		wants []string
	}{
		{"nothing", TensorStep{Count: 1}, named{"x": x(2, 2)}, []string{"no parameters", "x [2 2]"}},
		{"one factor", TensorStep{Count: 1}, named{"A": x(4, 2), "grad_A": x(4, 2)}, []string{"A and B"}},
		{"ranks", TensorStep{Count: 1}, named{"A": x(4, 2), "B": x(5, 3)}, []string{"A has the shape [4 2] and B the shape [5 3]"}},
		{"no gradients", TensorStep{Count: 1}, named{"A": x(4, 2), "B": x(5, 2)}, []string{"no gradient grad_A", "no gradient grad_B"}},
		{"gradient's shape", TensorStep{Count: 1}, named{"A": x(4, 2), "B": x(5, 2), "grad_A": x(2, 4), "grad_B": x(5, 2)}, []string{"grad_A has the shape [2 4], want [4 2]"}},
		{"moment's shape", TensorStep{Count: 1}, named{"A": x(4, 2), "B": x(5, 2), "grad_A": x(4, 2), "grad_B": x(5, 2), "m_B": x(4, 2)}, []string{"m_B has the shape [4 2], want [5 2]"}},
		{"nan", TensorStep{Count: 1}, named{"A": with(math.NaN()), "B": x(5, 2), "grad_A": x(4, 2), "grad_B": x(5, 2)}, []string{"A[1 0] is nan, want finite"}},
		{"inf", TensorStep{Count: 1}, named{"A": x(4, 2), "B": x(5, 2), "grad_A": with(math.Inf(-1)), "grad_B": x(5, 2)}, []string{"grad_A[1 0] is -inf, want finite"}},
		{"unknown", TensorStep{Count: 1}, named{"A": x(4, 2), "B": x(5, 2), "grad_A": x(4, 2), "grad_B": x(5, 2), "v_A": x(4, 2), "q": x(1, 1)},
			[]string{"unknown: q, v_A", "known here: A, grad_A, B, grad_B, m_A, m_B"}},
		{"step 0", TensorStep{}, named{"A": x(4, 2)}, []string{"count from 1"}},
		{"negative s", TensorStep{Count: 1, S: -1}, named{"A": x(4, 2)}, []string{"s is -1"}},
		{"pair with muon", TensorStep{Count: 1, Config: setting(t, "muon")}, named{"A": x(4, 2), "B": x(5, 2)}, []string{"optimizer muon", "no rule for pairs", "lora-muon"}},
		{"overflow", TensorStep{Count: 1, Config: setting(t, "adamw")}, named{"W": x(4, 2), "grad_W": scaled(1e30, x(4, 2))}, []string{"after the step", "not finite"}},
		{"no rate", TensorStep{Count: 1, Config: setting(t, "muon", func(c *Config) { c.LearningRate = 0 })}, named{"W": x(4, 2)}, []string{"learning rate must be positive"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.step.Config.Name == "" {
				c.step.Config = setting(t, "lora-muon")
			}
			_, err := c.step.Run(check.Backend(t), c.in.tensors())
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %q, want one line with %q", err, want)
				}
			}
		})
	}
}
