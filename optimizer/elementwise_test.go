package optimizer

import (
	"cmp"
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/param"
)

// elementwise returns what a rule on elements makes of x over the gradients; rule returns the new element and may keep
// what it needs between steps in state.
func elementwise(x *mat.Dense, grads []*mat.Dense, rule func(t int, x, g float64, state *[2]float64) float64) *mat.Dense {
	out := mat.DenseCopyOf(x)
	rows, cols := x.Dims()
	state := make([][2]float64, rows*cols)
	for t, g := range grads {
		out.Apply(func(i, j int, v float64) float64 { return rule(t+1, v, g.At(i, j), &state[i*cols+j]) }, out)
	}
	return out
}

// adamw is the reference: arXiv 1711.05101, algorithm 2, as written there, in float64.
func adamw(eta, beta1, beta2, epsilon, lambda float64) func(int, float64, float64, *[2]float64) float64 {
	return func(t int, x, g float64, state *[2]float64) float64 {
		state[0] = beta1*state[0] + (1-beta1)*g
		state[1] = beta2*state[1] + (1-beta2)*g*g
		m := state[0] / (1 - math.Pow(beta1, float64(t)))
		v := state[1] / (1 - math.Pow(beta2, float64(t)))
		return x - eta*lambda*x - eta*m/(math.Sqrt(v)+epsilon)
	}
}

// TestAdamWReference: 20 steps with gradients over six orders of magnitude, so that epsilon matters somewhere.
func TestAdamWReference(t *testing.T) {
	const steps, tol = 20, 2e-6 // 20 roundings of 6e-8 of the value; the worst here was 1e-7
	rng := random(2, 2)
	x := gaussian(rng, 6, 5)
	var grads []*mat.Dense
	var lists [][]*mat.Dense
	for range steps {
		g := gaussian(rng, 6, 5)
		g.Apply(func(i, j int, v float64) float64 { return v * math.Pow(10, float64(i-4)) }, g)
		grads = append(grads, rounded(g))
		lists = append(lists, []*mat.Dense{rounded(g)})
	}
	cfg := setting(t, "adamw", func(c *Config) { c.LearningRate, c.WeightDecay, c.Epsilon, c.Beta2 = 0.05, 0.1, 1e-3, 0.99 })
	got := after(t, cfg, []value{dense("/w", x)}, lists...)[0]
	want := adamw(0.05, 0.9, 0.99, 1e-3, 0.1)
	if e := relative(got, elementwise(x, grads, want)); !(e <= tol) {
		t.Errorf("off the reference by %.1e, want at most %g", e, tol)
	}
	for name, other := range map[string]func(int, float64, float64, *[2]float64) float64{
		"beta1": adamw(0.05, 0.91, 0.99, 1e-3, 0.1), "beta2": adamw(0.05, 0.9, 0.999, 1e-3, 0.1), "epsilon": adamw(0.05, 0.9, 0.99, 1e-8, 0.1),
		"decay": adamw(0.05, 0.9, 0.99, 1e-3, 0.11), "rate": adamw(0.0501, 0.9, 0.99, 1e-3, 0.1),
		"corrections": func(_ int, x, g float64, state *[2]float64) float64 {
			state[0], state[1] = 0.9*state[0]+0.1*g, 0.99*state[1]+0.01*g*g
			return x - 0.05*0.1*x - 0.05*state[0]/(math.Sqrt(state[1])+1e-3)
		},
	} {
		if e := relative(got, elementwise(x, grads, other)); !(e > 10*tol) {
			t.Errorf("passes with another %s", name)
		}
	}
	fallback := setting(t, "lora-muon", func(c *Config) { c.Fallback = Fallback{0.05, 0.9, 0.99, 1e-3, 0.1} })
	vector := value{path: "/w", x: x, spec: param.Spec{Role: param.Embedding}}
	if e := relative(after(t, fallback, []value{vector}, lists...)[0], got); e != 0 {
		t.Errorf("the fallback with the same settings differs by %.1e", e)
	}
}

// TestSGDReference holds sgd with its kinds of momentum to the textbook's recurrences.
func TestSGDReference(t *testing.T) {
	const tol = 1e-6 // 5 steps of a few roundings
	rng := random(4, 2)
	x := gaussian(rng, 4, 3)
	grads := []*mat.Dense{gaussian(rng, 4, 3), gaussian(rng, 4, 3), gaussian(rng, 4, 3)}
	for _, c := range []struct {
		beta     float64
		nesterov bool
	}{{0, false}, {0.9, false}, {0.9, true}} {
		rule := func(nesterov bool) func(int, float64, float64, *[2]float64) float64 {
			return func(_ int, x, g float64, state *[2]float64) float64 {
				state[0] = c.beta*state[0] + g
				if nesterov {
					return x - 0.1*0.2*x - 0.1*(g+c.beta*state[0])
				}
				return x - 0.1*0.2*x - 0.1*state[0]
			}
		}
		cfg := setting(t, "sgd", func(cfg *Config) { cfg.WeightDecay, cfg.Momentum, cfg.Nesterov = 0.2, c.beta, c.nesterov })
		got := after(t, cfg, []value{dense("/w", x)}, grads[:1], grads[1:2], grads[2:])[0]
		if e := relative(got, elementwise(x, grads, rule(c.nesterov))); !(e <= tol) {
			t.Errorf("beta %g, nesterov %v: off by %.1e, want at most %g", c.beta, c.nesterov, e, tol)
		}
		if e := relative(got, elementwise(x, grads, rule(!c.nesterov))); c.beta > 0 && !(e > 10*tol) {
			t.Errorf("beta %g: passes with nesterov %v too", c.beta, !c.nesterov)
		}
	}
}

// TestLoRAPlusRatio: the fan-out factor moves ratio times as far, everything else as before.
func TestLoRAPlusRatio(t *testing.T) {
	const tol = 2e-5 // differences of values of about 1 that move by 1e-2
	values := mixture("adamw")
	grads := gradients(values, 1)
	plain := setting(t, "adamw", noDecay, func(c *Config) { c.LearningRate = 0.01 })
	plus := plain
	plus.LoRAPlusRatio = 16
	before, now := after(t, plain, values, grads), after(t, plus, values, grads)
	for i, v := range values {
		factor := 1.0
		if v.spec.Side == param.SideA {
			factor = 16
		}
		if e := relative(sub(now[i], v.x), scaled(factor, sub(before[i], v.x))); !(e <= tol) {
			t.Errorf("%s: not %g times as far, off by %.1e", v.path, factor, e)
		}
	}
}

// TestClip: gradients whose global norm is above the limit are scaled to it. Two steps of different norms, because
// AdamW's first step does not depend on the gradient's size.
func TestClip(t *testing.T) {
	// The norm is summed in another order; inverse fourth roots of L and R amplify the difference where these are weak, here by
	// the ratio of the two gradients. A second step of lora-rite is a hundredth of the factors only.
	tols := map[string]float64{"shampoo": 2e-3, "lora-rite": 1e-4}
	eachOptimizer(t, func(t *testing.T, name string) {
		tol := cmp.Or(tols[name], 1e-5)
		values := mixture(name)
		first, second := gradients(values, 0.01, 1), gradients(values, 1, 2)
		clipped := setting(t, name, func(c *Config) { c.LearningRate, c.ClipNorm = 0.1, 1 })
		free := clipped
		free.ClipNorm = 0
		limited := limit(values, second, 1, name)
		if norm := globalNorm(values, first, name); !(norm < 1) {
			t.Fatalf("the first gradient has norm %.2f", norm)
		}
		got, want := after(t, clipped, values, first, second), after(t, free, values, first, limited)
		unclipped := after(t, free, values, first, second)
		for i, v := range values {
			if e := relative(sub(got[i], v.x), sub(want[i], v.x)); !(e <= tol) {
				t.Errorf("%s: off the step from scaled gradients by %.1e", v.path, e)
			}
			changed := relative(got[i], unclipped[i])
			if directional(name, v.spec.Role) == (changed > 0) {
				t.Errorf("%s: clipping changes it by %.1e", v.path, changed)
			}
		}
		note := ClipNote(clipped)
		told := ""
		switch {
		case directional(name, param.Pair):
			told = "no effect on " + name
		case directional(name, param.Hidden):
			told = "no effect on the hidden matrices of " + name
		}
		if (note != "") != (told != "") || !strings.Contains(note, told) {
			t.Errorf("note %q, want one with %q", note, told)
		}
		if note := ClipNote(free); note != "" {
			t.Errorf("note %q without clipping", note)
		}
	})
}

// globalNorm is the norm that clipping bounds: of the gradients whose rules use more than their direction.
func globalNorm(values []value, grads []*mat.Dense, name string) float64 {
	norm := 0.0
	for i, v := range values {
		if !directional(name, v.spec.Role) {
			norm = math.Hypot(norm, mat.Norm(grads[i], 2))
		}
	}
	return norm
}

// limit returns the gradients that clipping to a norm below theirs makes.
func limit(values []value, grads []*mat.Dense, norm float64, name string) []*mat.Dense {
	factor := norm / globalNorm(values, grads, name)
	var out []*mat.Dense
	for i, v := range values {
		if directional(name, v.spec.Role) {
			out = append(out, grads[i])
			continue
		}
		out = append(out, scaled(factor, grads[i]))
	}
	return out
}
